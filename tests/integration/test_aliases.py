"""Moving an alias: the record and the lock, without the gate."""

import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from support.project import Project

from spam_mlflow.errors import UserError
from spam_mlflow.registry import aliases
from spam_mlflow.registry.versions import find_version

NAME = "spam-classifier"
LOCK = "spam-classifier-promotion-lock"


@pytest.fixture
def bare(project: Project, tmp_path: Path) -> MlflowClient:
    client = project.client
    client.create_registered_model(NAME)
    for _ in range(4):
        version = client.create_model_version(NAME, f"file://{tmp_path}")
        client.set_model_version_tag(NAME, version.version, "validation_status", "passed")
    return client


def where(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias(NAME, "champion").version)


def test_of_two_promotions_at_once_one_wins_and_the_other_fails_cleanly(
    bare: MlflowClient,
) -> None:
    aliases.move(bare, "champion", "promote", "1", None, "first")
    barrier, outcomes = threading.Barrier(4), []

    def promote(version: str) -> None:
        barrier.wait()
        try:
            aliases.move(bare, "champion", "promote", version, "1", "race")
            outcomes.append(version)
        except UserError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=promote, args=(v,)) for v in ("2", "3", "4", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome.isdigit()]
    losers = [outcome for outcome in outcomes if not outcome.isdigit()]
    assert winners == [where(bare)]
    assert len(losers) == 3
    assert all("nothing was changed" in loser for loser in losers)
    assert [event.version for event in aliases.events(bare)] == ["1", *winners]


def test_a_lock_that_is_released_while_mlflow_looks_it_up_counts_as_held(
    bare: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.create_registered_model(LOCK)
    look_up: Callable[..., RegisteredModel] = SqlAlchemyStore.get_registered_model

    def look_up_too_late(store: SqlAlchemyStore, name: str) -> RegisteredModel:
        if inspect.stack()[1].function == "create_registered_model":
            bare.delete_registered_model(name)
        return look_up(store, name)

    monkeypatch.setattr(SqlAlchemyStore, "get_registered_model", look_up_too_late)
    with pytest.raises(UserError, match="nothing was changed"):
        aliases.move(bare, "champion", "promote", "1", None, "late")


def test_an_alias_that_was_moved_after_the_decision_is_left_where_it_is(bare: MlflowClient) -> None:
    aliases.move(bare, "champion", "promote", "1", None, "first")
    aliases.move(bare, "champion", "promote", "2", "1", "faster")
    message = "champion was moved from version 1 to version 2 by someone else in the meantime"
    with pytest.raises(UserError, match=message):
        aliases.move(bare, "champion", "promote", "3", "1", "slower")
    assert where(bare) == "2"


@pytest.mark.parametrize("status", ["rejected", "none", None])
def test_the_alias_never_points_to_a_version_that_is_not_validated(
    bare: MlflowClient, status: str | None
) -> None:
    bare.delete_model_version_tag(NAME, "2", "validation_status")
    if status:
        bare.set_model_version_tag(NAME, "2", "validation_status", status)
    aliases.move(bare, "champion", "promote", "1", None, "first")
    with pytest.raises(UserError, match=f"validation_status={status}"):
        aliases.move(bare, "champion", "promote", "2", "1", "no")
    assert where(bare) == "1"
    assert len(aliases.events(bare)) == 1


def test_a_lock_left_behind_opens_after_a_while(
    bare: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.create_registered_model(LOCK, {"by": "ann"})
    with pytest.raises(UserError, match="another promotion or rollback is moving the alias"):
        aliases.move(bare, "champion", "promote", "1", None, "first")
    monkeypatch.setattr(aliases, "_LOCK_SECONDS", -1)
    aliases.move(bare, "champion", "promote", "1", None, "first")
    assert where(bare) == "1"
    assert [model.name for model in bare.search_registered_models()] == [NAME]


def test_going_back_any_number_of_steps(bare: MlflowClient) -> None:
    before = None
    for version in ("1", "2", "3", "4"):
        aliases.move(bare, "champion", "promote", version, before, "on")
        before = version
    assert aliases.rollback(bare, "champion", 1, "one") == "3"
    assert aliases.rollback(bare, "champion", 2, "two more") == "1"
    with pytest.raises(UserError, match=r"steps=1: champion has only 0 earlier versions"):
        aliases.rollback(bare, "champion", 1, "too far")
    aliases.move(bare, "champion", "promote", "4", "1", "again")
    assert aliases.rollback(bare, "champion", 1, "once more") == where(bare) == "1"


def test_the_latest_version_is_the_highest_by_number(bare: MlflowClient, tmp_path: Path) -> None:
    while str(bare.create_model_version(NAME, f"file://{tmp_path}").version) != "10":
        pass
    assert find_version(bare, "latest").number == "10"
    with pytest.raises(UserError, match=r"does not exist; existing: 1, 2, .*, 9, 10"):
        find_version(bare, "11")


def test_a_user_without_a_name_is_recorded_by_number(
    bare: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # as in a container that runs as any user
    aliases.move(bare, "champion", "promote", "1", None, "first")
    assert aliases.events(bare)[-1].by == "uid 54321"
