"""Kill bulk scoring at random moments, go on, and compare with an undisturbed run.

    python -m scripts.kill_score --data-dir FOLDER [--kills 10] [--engine local] [--rows 60000]

Each kill, at a random moment, is a SIGKILL of the command, of one of its workers or, with --engine
spark, of Java or of one of Spark's Python processes. A command that was killed is given again,
until it ends by itself, and then begins anew elsewhere until all kills are done. Every output must
hold the same files, byte for byte.
"""

import argparse
import contextlib
import json
import random
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from scripts import bench_score

PART_ROWS = 1000


def start(engine: str, folder: Path, output: str) -> "subprocess.Popen[bytes]":
    """Begin to score the messages, or go on."""
    line = bench_score.command(engine, folder, folder / "messages.parquet", folder / output)
    line = [*line, f"part_rows={PART_ROWS}"]
    return subprocess.Popen(
        line, env=bench_score.environment(folder), stderr=(folder / "log").open("ab")
    )


def manifest(folder: Path, output: str) -> dict[str, Any]:
    """Return the manifest of complete scores."""
    found: dict[str, Any] = json.loads((folder / output / "_manifest.json").read_text())
    return found


def kill_one(process: "subprocess.Popen[bytes]", rng: random.Random) -> str:
    """Kill the command or one of its descendants, of any kind alike, and return what it was."""
    root = psutil.Process(process.pid)
    victims: dict[str, list[psutil.Process]] = {"command": [root]}
    for child in root.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            victims.setdefault(f"its {child.name()}", []).append(child)
    name = rng.choice(sorted(victims))
    rng.choice(victims[name]).kill()
    return name


def disturbed(
    engine: str, folder: Path, output: str, seconds: float, rng: random.Random, left: int
) -> list[str]:
    """Score while processes are killed, and return what was killed.

    Args:
        engine: Of the command.
        folder: Folder with the messages.
        output: Name of the folder for the scores.
        seconds: Longest time to the next kill.
        rng: Draws moments and victims.
        left: Number of kills at most.
    """
    killed: list[str] = []
    process = start(engine, folder, output)
    while True:
        try:
            if process.wait(rng.uniform(0, seconds) if len(killed) < left else None) == 0:
                return killed
            process = start(engine, folder, output)
        except subprocess.TimeoutExpired:
            killed.append(kill_one(process, rng))


def main() -> None:
    """Print what was killed, and whether the output is as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--engine", choices=("local", "spark"), default="local")
    parser.add_argument("--rows", type=int, default=60_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data_dir = str(Path(arguments.data_dir).resolve())
        bench_score.train(data_dir, folder)
        bench_score.write(data_dir, arguments.rows, False, folder / "messages.parquet")
        begun = time.monotonic()
        if start(arguments.engine, folder, "undisturbed").wait():
            raise SystemExit((folder / "log").read_text())
        seconds = time.monotonic() - begun
        rng, killed, same = random.Random(0), list[str](), True
        expected = manifest(folder, "undisturbed")
        while len(killed) < arguments.kills:
            output, left = f"disturbed-{len(killed)}", arguments.kills - len(killed)
            killed += disturbed(arguments.engine, folder, output, seconds, rng, left)
            found = manifest(folder, output)
            same = same and all(found[key] == expected[key] for key in ("files", "counts"))
        print(dict(Counter(killed)), "the same files" if same else "OTHER FILES", found["counts"])


if __name__ == "__main__":
    main()
