"""Values of environment variables and passwords: nowhere in what a job logs, writes or prints."""

import shutil

from support.project import ROOT, Project

SECRET = "it's-a-s3cr3t"
SAMPLE = ROOT / "spam_mlflow" / "data" / "sources" / "sample.csv"
QUICK = ("train.epochs=1", "train.obfuscated_fraction=0", "train.padded_fraction=0")


def test_what_the_configuration_reads_from_the_environment_is_found_nowhere(
    project: Project,
) -> None:
    folder = project.folder.parent / f"{project.folder.name}-{SECRET}"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "own.csv")
    inside = Project(project.folder, {"MY_FOLDER": str(folder), "MY_SECRET": SECRET})
    secret_address = "storage.endpoint_url=http://ann:s3cr3t@example.org"
    from_environment = ("data=csv", "data.path=own.csv", "data_dir=${oc.env:MY_FOLDER}")
    outputs = []
    for status, arguments in (
        (0, ("main", *from_environment, *QUICK)),
        (1, ("main", *from_environment, "data.path='${oc.env:MY_SECRET}.csv'")),
        (1, ("main", *from_environment, "data.text_column=${oc.env:MY_SECRET}")),
        (1, ("main", "data=sample", "output_dir='/proc/${oc.env:MY_SECRET}'")),
        (1, ("main", "data=sample", "preset=${oc.env:MY_SECRET}")),
        (1, ("main", "data=sample", "train.epochs=${oc.env:MY_SECRET}")),
        (1, ("main", "data=sample", secret_address)),
        (0, ("main", *from_environment, "--config")),
        (1, ("sweep", "study=${oc.env:MY_SECRET}")),
        (1, ("rollback", "reason='since ${oc.env:MY_SECRET}'")),
    ):
        done = inside.run(*arguments)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        outputs.append(done.stdout + done.stderr)
    files = [path.read_bytes() for path in project.folder.rglob("*") if path.is_file()]
    assert any(b"${oc.env:MY_FOLDER}" in content for content in files)  # config.yaml is in there
    assert len(project.runs()) == 4
    assert not [output for output in outputs if "s3cr3t" in output]
    assert not [content for content in files if b"s3cr3t" in content]
