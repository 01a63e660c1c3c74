"""The command line: one thin layer for every entry point.

`python -m spam_mlflow COMMAND key=value ...`, or `spam-mlflow` where the package is installed,
takes plain Hydra overrides. `--data-dir` and `--overrides` take their value as it is, whatever
characters it holds: they are what `MLproject` passes on. `mlflow run` appends parameters that
`MLproject` does not declare as `--key value`; they count as overrides, too. `--json` stands for
`json=true`.
"""

import argparse
import codecs
import contextlib
import gc
import importlib
import io
import json
import logging
import os
import select
import shutil
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TextIO

from spam_mlflow import __version__, error_messages, progress
from spam_mlflow.config import compose, paths, reference
from spam_mlflow.config.masking import mask_record, masked
from spam_mlflow.config.overrides import literal, split_overrides
from spam_mlflow.config.reference import Key
from spam_mlflow.errors import UserError

_FLAGS = ("--help", "--config")
_OPTIONS = ("--data-dir", "--overrides")
_INDENT = 36  # columns before the meaning of a key in --help
_INTERRUPTED = 130  # the shell's exit status for a process ended by Ctrl-C
_ESCAPES = "spam_mlflow-escapes"  # name of the error handler of both output streams
_UNREAD = 141  # and for one whose output nobody reads any more


@dataclass(frozen=True)
class Command:
    """An entry point.

    Attributes:
        summary: What it does, in one line; `MLproject` and the documentation repeat it.
        example: Its arguments in an example.
        module: In `spam_mlflow.jobs`; None where it is called like the command.
        actions: Values of the command's key `action` that may be given without it.
    """

    summary: str
    example: str
    module: str | None = None
    actions: tuple[str, ...] = ()


COMMANDS = {
    "main": Command(
        "train, evaluate, log and register a classifier",
        "train.epochs=5 data_dir=data/uci",
        "train",
    ),
    "evaluate": Command(
        "score a logged or registered model on any data set",
        "model_uri=models:/spam-classifier/1 data=sample",
    ),
    "score": Command(
        "score messages in bulk: files, folders or an S3 store; resumable",
        "model_uri=models:/spam-classifier@champion input=messages.parquet output=scores",
    ),
    "sweep": Command(
        "search hyper-parameters on the validation part; resumable",
        "trials=20 save_as=tuned data_dir=data/uci",
    ),
    "compare": Command(
        "list runs, and report on chosen ones: intervals, curves, disagreements",
        "runs=[0123abcd,4567cdef]",
    ),
    "resume": Command(
        "complete a run whose training ended well and whose upload did not",
        "folder=/tmp/spam_mlflow-0123456789abcdef",
    ),
    "promote": Command(
        "gate a version against the champion, then move the alias to it",
        "version=3 data_dir=data/uci",
    ),
    "rollback": Command(
        "return the alias to an earlier version",
        "reason='too many complaints'",
    ),
    "history": Command(
        "show who was champion, when and why, and which versions there are",
        "alias=champion",
    ),
    "publish": Command(
        "upload a model's files to an S3 store",
        "model_uri=models:/spam-classifier@champion bucket=my-bucket",
    ),
    "pull": Command(
        "download what publish uploaded",
        "bucket=my-bucket storage=linode",
    ),
    "bucket": Command(
        "use a bucket for artifacts: check access, create the experiment",
        "bucket=my-bucket storage=digitalocean region=fra1",
    ),
    "serve": Command(
        "answer requests, store what is predicted, and take feedback",
        "model_uri=models:/spam-classifier@champion store=sqlite",
    ),
    "inferences": Command(
        "list, export, review or delete what was predicted",
        "export store=sqlite output=inferences.csv",
        actions=("create", "list", "export", "purge", "forget", "review"),
    ),
    "retrain": Command(
        "train with what people said, gate, and promote or say why not",
        "store=sqlite data_dir=data/uci dry_run=true",
    ),
    "drift": Command(
        "compare what a version scores with what it was trained for",
        "store=sqlite window=1",
    ),
}


def script() -> int:
    """Run `spam-mlflow` with the arguments that it was started with, as the process's last act."""
    status = main(sys.argv[1:])
    # Python would look for garbage among all that is loaded, which takes it seconds at the end of a
    # process that has used TensorFlow.
    gc.freeze()
    return status


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` and return the exit status; errors take one line."""
    progress.log_to_stderr()
    for handler in logging.getLogger().handlers:
        handler.addFilter(mask_record)
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        _encode_everything(stream)
    try:
        _require_text(arguments)
        parsed = _parse(arguments)
        with _project_run(parsed.command):
            _run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return _UNREAD
        reason = error_messages.user_message(error)
        text = f"error: {reason}\n" if reason is not None else masked(traceback.format_exc())
        print(text, end="", file=sys.stderr)
        return 1
    return 0


def _is_unread() -> bool:
    """Return whether the reader of the standard output is gone, as `| head` is soon.

    What is left to write then goes nowhere, so that Python does not complain of it at the end.
    """
    try:
        output = sys.stdout.fileno()
    except OSError:  # not one of the system's
        return False
    state = select.poll()
    state.register(output, 0)  # an error is said in any case
    if not any(event & select.POLLERR for _, event in state.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _encode_everything(stream: TextIO) -> None:
    """Have characters that the terminal's encoding lacks written as JSON escapes them."""
    codecs.register_error(_ESCAPES, _escaped)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ESCAPES)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Return characters that cannot be encoded as JSON has them, such as "\u00e9".

    Python's own escapes, such as "\xe9", are no JSON, which commands print with `--json`.
    """
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _require_text(arguments: Sequence[str]) -> None:
    """Raise UserError for an argument that no configuration can hold."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{argument!r} is not valid in this terminal's encoding, "
                f"{sys.getfilesystemencoding()}; rename the file, or set LC_ALL=C.UTF-8"
            ) from error


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=paths.PROGRAM,
        description="Train, compare and serve spam classifiers.",
        epilog='For completion with Tab: eval "$(register-python-argcomplete spam-mlflow)".',
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        _add_command(commands, name, command, parser.prog)
    _complete(parser)
    if not arguments:
        parser.print_help()
        sys.exit(0)
    return parser.parse_args([*arguments[:1], *_with_appended(arguments[1:])])


def _add_command(
    commands: "argparse._SubParsersAction[_CommandParser]", name: str, command: Command, prog: str
) -> None:
    sub = commands.add_parser(
        name,
        help=command.summary,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example: {prog} {name} {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    positional = sub.add_argument("override", nargs="*", help="key=value, see below")
    positional.completer = lambda prefix, **_: _completions(name)  # type: ignore[attr-defined]
    sub.add_argument("--data-dir", default="none", help="the same as data_dir=...; none: unset")
    sub.add_argument("--overrides", default="none", help="overrides in one string; none: unset")
    sub.add_argument("--config", action="store_true", help="print the configuration and stop")
    # Made only when it is asked for: it reads every file of `conf/` that the command uses.
    sub.format_help = lambda: _help(sub, name)  # type: ignore[method-assign]


_CommandParser = argparse.ArgumentParser


def _help(parser: argparse.ArgumentParser, name: str) -> str:
    """Return argparse's help with every key of the command, its default and its meaning."""
    usual = argparse.ArgumentParser.format_help(parser)
    before, _, example = usual.rpartition("example: ")
    keys = "\n".join(_key_lines(name))
    return f"{before}{keys}\n\nexample: {example}"


def _key_lines(name: str) -> Iterator[str]:
    width = min(shutil.get_terminal_size().columns, 100)
    yield "keys and their defaults (???: must be given):"
    yield from _aligned(reference.command_keys(name), width)
    for group, chosen in reference.groups(name).items():
        valid = "|".join(paths.choices(group))
        yield ""
        yield from textwrap.wrap(f"{group}={valid}", width, subsequent_indent="    ")
        if chosen:
            yield f"  keys with {group}={chosen}:"
            yield from _aligned(reference.section_keys(group, chosen), width)


def _aligned(keys: Sequence[Key], width: int) -> Iterator[str]:
    for key in keys:
        head = f"  {key.name}={key.default}"
        beside = textwrap.wrap(key.meaning, width - _INDENT) or [""]
        if len(head) < _INDENT:
            head += " " * (_INDENT - len(head)) + beside.pop(0)
        yield head
        yield from (" " * _INDENT + line for line in beside)


def _with_appended(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, those of the form `--key value` that are no options as `key=value`.

    Overrides come first: argparse takes them in one stretch only.
    """
    overrides, options = [], []
    # `mlflow run` appends `--json true`, which is a key and its value.
    followed = zip(arguments, [*arguments[1:], ""], strict=False)
    words = iter(
        "json=true" if word == "--json" and following not in ("true", "false") else word
        for word, following in followed
    )
    for word in words:
        option, equals, value = word.partition("=")
        if not option.startswith("-"):
            overrides.append(word)
        elif option in _OPTIONS:
            options += [word] if equals else [word, next(words, "none")]
        elif option.startswith("--") and option not in _FLAGS:
            overrides.append(f"{option[2:]}={value if equals else next(words, '')}")
        else:
            options.append(word)
    return [*overrides, *options]


def _run(parsed: argparse.Namespace) -> None:
    actions = COMMANDS[parsed.command].actions
    overrides = [f"action={word}" if word in actions else word for word in parsed.override]
    given = [*overrides, *split_overrides(parsed.overrides)]
    if parsed.data_dir != "none":
        given.append(literal("data_dir", parsed.data_dir))
    cfg = compose.compose(parsed.command, given, partial=parsed.config)
    if parsed.config:
        print(compose.to_yaml(cfg), end="")
        return
    with progress.step("Starting"):
        # Everything is checked before a run is made, and before what is slow to import.
        from spam_mlflow.config.instantiate import validate

        settings = validate(parsed.command, cfg)
        module = COMMANDS[parsed.command].module or parsed.command
        job = importlib.import_module(f"spam_mlflow.jobs.{module}")
    job.run(settings, cfg)


def _project_run(command: str) -> contextlib.AbstractContextManager[None]:
    """Return what leaves no empty run of `mlflow run` behind."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return contextlib.nullcontext()
    from spam_mlflow.tracking import project_run

    return project_run.tidied(command)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell where it asks for completions."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def _completions(name: str) -> list[str]:
    """Return every override that can be begun: choices of groups, and keys."""
    groups = reference.groups(name)
    found = [f"{group}={choice}" for group in groups for choice in paths.choices(group)]
    return [*found, *(f"{key.name}=" for key in reference.all_keys(name))]


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, but once: `mlflow run` sends SIGTERM after the SIGINT it passed on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
