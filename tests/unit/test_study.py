"""Studies in a file."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from spam_mlflow.errors import UserError
from spam_mlflow.sweep.study import open_study
from spam_mlflow.sweep.study_database import StudyDatabase


def take_a_trial_while_it_is_locked(database: StudyDatabase) -> None:
    assert database.file is not None
    with (
        contextlib.closing(sqlite3.connect(database.file, isolation_level=None)) as other,
        open_study("tested", database, seed=0, prune=False) as study,
    ):
        other.execute("BEGIN EXCLUSIVE")
        next(study.next_trials(1, None))


def test_a_file_that_another_program_locks_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    database = StudyDatabase(f"sqlite:///{file}?timeout=0.1", file)
    with pytest.raises(UserError) as caught:
        take_a_trial_while_it_is_locked(database)
    message = f"study_db={file} has failed (database is locked); the same command goes on"
    assert message in str(caught.value)
