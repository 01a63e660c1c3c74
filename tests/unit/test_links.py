"""Where runs and versions are seen."""

import pytest
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from spam_mlflow.tracking import links


def test_a_workspace_of_databricks_has_no_pages_of_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _use_tracking_uri("databricks"):
        monkeypatch.delenv("DATABRICKS_HOST", raising=False)
        assert links.run_page("ab12") == "run ab12 in the Databricks workspace"
        monkeypatch.setenv("DATABRICKS_HOST", "https://adb-1.example.net")
        shown = links.version_page("spam-classifier", "3")
    workspace = "the Databricks workspace https://adb-1.example.net"
    assert shown == f"version 3 of spam-classifier in {workspace}"
