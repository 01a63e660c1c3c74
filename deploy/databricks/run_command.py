"""Run a command of the project as a task of a Databricks job.

    run_command.py [NAME=VALUE...] COMMAND [key=value...]

The entry point of the wheel would do without this file, but Databricks ignores what it returns: a
command that has failed would count as a success.
"""

import itertools
import os
import re
import sys

from spam_mlflow import cli

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=.*", re.DOTALL)


def main(words: list[str]) -> None:
    """Set the environment variables that come first, and run the command.

    Raises:
        SystemExit: With the command's exit status, unless it has ended well. Databricks counts that
            as a failure even where the status is 0.
    """
    variables = list(itertools.takewhile(_VARIABLE.fullmatch, words))
    for name, _, value in (word.partition("=") for word in variables):
        os.environ[name] = value
    status = cli.main(words[len(variables) :])
    if status != 0:
        raise SystemExit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
