import pytest

from spam_mlflow.registry.aliases import Event, version_stack


def event(action: str, version: str, previous: str | None, done: bool = True) -> Event:
    return Event("champion", action, version, previous, "", "", "", done)


@pytest.mark.parametrize(
    ("events", "current", "stack"),
    [
        ([], None, []),
        ([], "7", ["7"]),
        ([event("promote", "1", None), event("promote", "2", "1")], "2", ["1", "2"]),
        ([event("promote", "1", None), event("promote", "2", "1", done=False)], "1", ["1"]),
        # The client died after the alias moved, before it could say so.
        ([event("promote", "1", None), event("promote", "2", "1", done=False)], "2", ["1", "2"]),
        # Someone moved the alias by hand.
        ([event("promote", "1", None), event("promote", "3", "2")], "3", ["1", "2", "3"]),
        ([event("promote", "1", None)], "5", ["1", "5"]),
        # After a rollback, too.
        (
            [event("promote", "1", None), event("promote", "2", "1"), event("rollback", "1", "2")],
            "5",
            ["1", "5"],
        ),
        # The champion's version was deleted, and the alias with it.
        ([event("promote", "1", None), event("promote", "2", "1")], None, ["1", "2"]),
    ],
)
def test_what_an_alias_stands_on(
    events: list[Event], current: str | None, stack: list[str]
) -> None:
    assert version_stack(events, "champion", current) == stack
    assert version_stack(events, "challenger", None) == []
