"""Begin a run in several processes at once: `python open_at_once.py NUMBER`.

What is slow to import is imported before the processes begin, so that they are at the same point.
"""

import os
import sys
import traceback

import alembic.command  # noqa: F401
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from spam_mlflow.tracking import runs


def begin() -> int:
    """Return the exit status of a process that begins a run."""
    try:
        runs.connect()
        with runs.run():
            return 0
    except BaseException:
        traceback.print_exc()
        return 1


def main() -> int:
    """Return how many of the processes failed."""
    children = []
    for _ in range(int(sys.argv[1])):
        child = os.fork()
        if not child:
            os._exit(begin())
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main())
