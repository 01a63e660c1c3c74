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
