"""Tests of units are quick: they import no TensorFlow and start no servers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_SLOW = ("tensorflow", "keras")


@pytest.fixture(scope="session")
def only_units(request: pytest.FixtureRequest) -> bool:
    """Whether no tests of another kind run in this process."""
    return all(item.path.is_relative_to(Path(__file__).parent) for item in request.session.items)


@pytest.fixture(autouse=True)
def nothing_slow_is_imported(only_units: bool) -> Iterator[None]:
    """Fail a test that imports TensorFlow; tests of another kind may have done so before it."""
    before = {name for name in _SLOW if name in sys.modules and not only_units}
    yield
    assert not {name for name in _SLOW if name in sys.modules} - before
