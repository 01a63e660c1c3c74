import pytest

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import choices
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.storage import s3


def store(command: str, *overrides: str) -> StorageSettings:
    found: StorageSettings = validate(command, compose(command, list(overrides))).store
    return found


@pytest.mark.parametrize("name", choices("storage"))
def test_every_preset_is_valid(name: str) -> None:
    given = store("publish", f"storage={name}", "model_uri=x", "bucket=abc")
    assert given.url is None or "{" not in given.url
    assert given.url == s3.environment(given).get("MLFLOW_S3_ENDPOINT_URL")
    assert given.url is None or s3.client(given).meta.endpoint_url == given.url


def test_the_region_is_part_of_a_preset_endpoint() -> None:
    given = store("pull", "storage=linode", "bucket=abc", "region=nl-ams-1")
    assert given.url == "https://nl-ams-1.linodeobjects.com"
