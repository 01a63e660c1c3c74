import pytest
from support.project import Project, require_one_line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("save_as=tiny",), "save_as='tiny': experiment=tiny exists; give another name"),
        (("split=tutorial",), "split=tutorial: its validation part is its test part"),
        (("timeout=0.000001",), "no trial was completed"),
        (("trials=0",), "trials=0: Input should be greater than or equal to 1"),
        (("model=cnn", "search=ngram_linear"), "is not a key of this model or of train"),
        (("search.objective=test_f1",), "search.objective='test_f1'"),
    ],
)
def test_what_a_sweep_cannot_do_is_said(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    done = project.run("sweep", "data=sample", "study_db=s.db", "trials=1", *arguments)
    require_one_line(done, message)


@pytest.mark.parametrize(
    ("study_db", "message"),
    [
        ("postgresql://ann:s3cr3t@127.0.0.1:1/db", "db cannot be opened (connection failed: "),
        ("postgresql://ann:s3 'cr3t@127.0.0.1:1/db", "study_db=postgresql://***@127.0.0.1:1/db "),
        ("postgresql://127.0.0.1:1/db?user=ann&password=s3cr3t", "/db?user=ann&password=*** "),
        ("mysql://ann:s3cr3t@127.0.0.1/db", "is not installed: pip install 'mysqlclient'"),
        ("postgres://ann:s3cr3t@127.0.0.1/db", "such as postgresql://host/database"),
        ("sqlite://", "study_db='sqlite://' names no file"),
        ("/proc/s.db", "study_db=/proc/s.db cannot be opened (No such file or directory)"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    project: Project, study_db: str, message: str
) -> None:
    done = project.run("sweep", "data=sample", f"study_db={study_db}")
    require_one_line(done, message)
    assert "cr3t" not in done.stderr
    assert not project.runs()
