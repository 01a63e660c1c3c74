"""Records of lines: nothing is lost, whatever the lines hold."""

import random
from itertools import product

from spam_mlflow.batch_worker.records import Dialect, Layout, records, split_lines

PIECES = ["ham", "spam", ",", ",", '"', '""', "\n", "\n", "\r\n", "\r", "\\", " ", "text", "\0"]
LAYOUT = Layout(width=2, needed=2, label=0, is_label=("ham", "spam").__contains__)
DIALECTS = [Dialect(",", *flags) for flags in product([True, False], repeat=3)]


def test_every_line_is_in_one_record_in_order() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        lines = split_lines("".join(chance.choices(PIECES, k=chance.randrange(120))))
        for dialect in DIALECTS:
            found = list(records(lines, dialect, LAYOUT))
            covered = [
                n for record in found for n in range(record.line, record.line + record.lines)
            ]
            assert covered == sorted(set(covered))
            missed = set(range(len(lines))) - set(covered)
            assert not [lines[n] for n in missed if lines[n].strip()]


def test_a_file_that_opens_a_mark_in_every_line_is_read_in_linear_time() -> None:
    """Each line is looked at a few times, not once for every line before it."""
    lines = [f'ham,"text {number}\n' for number in range(20_000)]
    reads = 0

    def is_label(value: str) -> bool:
        nonlocal reads
        reads += 1
        return value == "ham"

    layout = Layout(width=2, needed=2, label=0, is_label=is_label)
    assert len(list(records(lines, Dialect(","), layout))) == len(lines)
    assert reads < 5 * len(lines)
