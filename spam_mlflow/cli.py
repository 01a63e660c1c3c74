"""The command line: one thin layer for every entry point.

`python -m spam_mlflow COMMAND key=value ...` takes plain Hydra overrides. `--data-dir` and
`--overrides` take their value as it is, whatever characters it holds: they are what `MLproject`
passes on.
"""

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from spam_mlflow import __version__, config, faults

_INTERRUPTED = 130  # the shell's exit status for a process ended by Ctrl-C


@dataclass(frozen=True)
class Command:
    """An entry point: its module in `spam_mlflow.commands`, its file in `conf/`, a line of help."""

    summary: str
    example: str


COMMANDS = {
    "main": Command(
        "train, evaluate, log and register a classifier",
        "python -m spam_mlflow main train.epochs=5 data_dir=data/uci",
    ),
    "evaluate": Command(
        "score a logged or registered model on any data set",
        "python -m spam_mlflow evaluate model_uri=models:/spam-classifier/1 data=sample",
    ),
    "sweep": Command(
        "search hyper-parameters on the validation part; resumable",
        "python -m spam_mlflow sweep trials=20 save_as=tuned data_dir=data/uci",
    ),
    "compare": Command(
        "list runs, and report on chosen ones: intervals, curves, disagreements",
        "python -m spam_mlflow compare runs=[0123abcd,4567cdef]",
    ),
    "resume": Command(
        "complete a run whose training ended well and whose upload did not",
        "python -m spam_mlflow resume folder=/tmp/spam_mlflow-0123456789abcdef",
    ),
    "promote": Command(
        "gate a version against the champion, then move the alias to it",
        "python -m spam_mlflow promote version=3 data_dir=data/uci",
    ),
    "rollback": Command(
        "return the alias to an earlier version",
        "python -m spam_mlflow rollback reason='too many complaints'",
    ),
    "history": Command(
        "show who was champion, when and why, and which versions there are",
        "python -m spam_mlflow history",
    ),
    "publish": Command(
        "upload a model's files to an S3 store",
        "python -m spam_mlflow publish model_uri=models:/spam-classifier@champion bucket=my-bucket",
    ),
    "pull": Command(
        "download what publish uploaded",
        "python -m spam_mlflow pull bucket=my-bucket storage=linode",
    ),
    "bucket": Command(
        "use a bucket for artifacts: check access, create the experiment",
        "python -m spam_mlflow bucket bucket=my-bucket storage=digitalocean region=fra1",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` and return the exit status; errors take one line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("spam_mlflow").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    parsed = _parse(arguments)
    try:
        _run(parsed)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        reason = faults.explain(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m spam_mlflow", description="Train, compare and serve spam classifiers."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=_epilog(name, command),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("override", nargs="*", help="Hydra override, such as model=seed_lstm")
        sub.add_argument("--data-dir", default="none", help="the same as data_dir=...; none: unset")
        sub.add_argument("--overrides", default="none", help="overrides in one string; none: unset")
        sub.add_argument("--config", action="store_true", help="print the configuration and stop")
    if not arguments:
        parser.print_help()
        sys.exit(0)
    return parser.parse_args(arguments)


def _epilog(name: str, command: Command) -> str:
    """Return the choices that `conf/` offers to a command, where the rest is explained."""
    groups = [f"  {group}={'|'.join(config.choices(group))}" for group in config.groups(name)]
    rest = f"every key is explained in conf/{name}.yaml"
    if groups:
        rest = f"every other key is explained in conf/{name}.yaml and the groups' files"
    return "\n".join(
        [
            *(["config groups and their choices:"] if groups else []),
            *groups,
            f"{rest}; --config prints the whole",
            "",
            f"example: {command.example}",
        ]
    )


def _run(parsed: argparse.Namespace) -> None:
    given = [*parsed.override, *config.split_overrides(parsed.overrides)]
    if parsed.data_dir != "none":
        given.append(config.literal("data_dir", parsed.data_dir))
    cfg = config.compose(parsed.command, given)
    if parsed.config:
        print(config.to_yaml(cfg), end="")
        return
    importlib.import_module(f"spam_mlflow.commands.{parsed.command}").run(cfg)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, but once: `mlflow run` sends SIGTERM after the SIGINT it passed on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
