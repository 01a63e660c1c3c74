import pytest
from support.project import Project


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("endpoint_url=localhost:9000", "error: endpoint_url='localhost:9000': "),
        ("storage.endpoint_url=localhost:9000", "error: storage.endpoint_url='localhost:9000': "),
        ("endpoint_url=http://me:secret@host", "error: endpoint_url="),
        ("region='eu central'", "error: region='eu central': "),
        ("storage.attempts=0", "storage.attempts=0"),
        ("storage.checksums=never", "storage.checksums='never'"),
        ("bucket=Upper_Case", "bucket='Upper_Case'"),
        ("prefix=/", "prefix='/'"),
    ],
)
def test_bad_values_are_named(bare_project: Project, override: str, expected: str) -> None:
    done = bare_project.run("pull", "bucket=some-bucket", override)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
