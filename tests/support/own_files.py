"""Files of one's own, as a user has them."""

from pathlib import Path
from typing import Any

from spam_mlflow.data.messages import Messages
from spam_mlflow.data.sources.csv_file import CsvSource


def load(path: Path, content: str | bytes, name: str = "messages.csv", **settings: Any) -> Messages:
    """Write a file and read it with `data=csv` and `settings`."""
    file = path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return source(file, **settings).load()


def source(path: Path | str, **settings: Any) -> CsvSource:
    usual = {"text_column": "text", "label_column": "label"}
    labels: dict[str, Any] = {"ham_labels": ["ham"], "spam_labels": ["spam"]}
    return CsvSource(path=str(path), **(usual | labels | settings))
