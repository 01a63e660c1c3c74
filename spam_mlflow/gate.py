"""What a version must show before an alias may point to it: one named result for every check."""

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_dataclass

from spam_mlflow import (
    behaviour,
    evaluation,
    registry,
    scoring_server,
    significance,
    slices,
    tables,
)
from spam_mlflow.classifier import Metadata
from spam_mlflow.data.messages import LABELS, Messages, frame_digest
from spam_mlflow.registry import Version
from spam_mlflow.scoring_server import ScoringServer
from spam_mlflow.split import Split
from spam_mlflow.text import duplicate_key

Verdict = Literal["passed", "failed", "not applicable"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

_FIGURES = {"f1": (significance.f1, 1), "ham_fpr": (significance.ham_fpr, -1)}
"""Figures compared with the champion's, and whether more is better (1) or worse (-1)."""

_ODD_TEXTS = (
    "",
    " ",
    "\U0001f600",
    "\u05e9\u05dc\u05d5\u05dd \u202exyz",
    "a\x00b",
    "a b " * 25_000,
)
_TEXT = "Free entry in a weekly competition, text WIN to 80086"
BAD_BODIES: Mapping[str, Any] = {
    "empty body": "",
    "broken JSON": "{nonsense",
    "null": {"dataframe_records": [{"text": None}]},
    "number": {"inputs": [5]},
    "missing column": {"dataframe_records": [{"body": "x"}]},
}
"""Bodies that a server must refuse, by what is wrong with them."""


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GateSettings:
    """Bounds of the checks: each key is explained in `conf/gate/default.yaml`."""

    clean_commit: bool
    allow_fallback: bool
    min_rows: Count
    spam_rate: tuple[Share, Share]
    floors: dict[str, float]
    ceilings: dict[str, float]
    tolerances: dict[Literal["f1", "ham_fpr"], Annotated[float, Field(ge=0)]]
    churn: Share
    beats_naive_bayes_by: float
    slice_rows: Count
    slice_class_rows: Count
    slice_balanced_accuracy: Share
    minimum_failures: Share
    invariance_failures: Share
    direction_failures: Share
    parity: Annotated[float, Field(gt=0)]
    requests: Count
    latency_ratio: Annotated[float, Field(gt=0)]
    start_ratio: Annotated[float, Field(gt=0)]
    memory_mb: Annotated[float, Field(gt=0)]
    artifact_mb: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Check:
    """One result: what was measured, against which bound, and what it means."""

    name: str
    value: str
    bound: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Holdout:
    """The test part that candidate and champion are scored on, and all that it was split from."""

    messages: Messages
    split: Split
    frame: pd.DataFrame

    @property
    def spam(self) -> np.ndarray:
        """Truth, shape (rows,), bool."""
        return (self.frame["label"] == "spam").to_numpy()

    @property
    def texts(self) -> list[str]:
        """The messages."""
        return list(self.frame["text"])


@dataclass(frozen=True)
class _Scored:
    """A version's answers on the holdout, from its own code in a process of its own."""

    metadata: Metadata
    scores: np.ndarray

    @property
    def called(self) -> np.ndarray:
        return self.scores >= self.metadata.threshold


def holdout(messages: Messages, split: Split) -> Holdout:
    """Return the split's test part as holdout."""
    return Holdout(messages, split, split.part("test"))


def run(
    candidate: Version, champion: Version | None, held: Holdout, settings: GateSettings
) -> list[Check]:
    """Return the result of every check of `candidate`.

    Both versions answer now, through MLflow's scoring server, each with the code it was logged
    with; a third server, with a model that does nothing, is the floor that speed is measured from.

    Raises UserError where a version cannot be served at all.
    """
    checks = [*_provenance(candidate, held, settings), *_data(held, settings)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = registry.download(candidate.uri)
        reigning = None
        if champion:
            theirs = registry.download(champion.uri)
            with scoring_server.running(theirs, folder / "champion.log") as server:
                reigning = _answers(theirs, server, held)
        registry.save_noop(folder / "noop")
        with (
            scoring_server.running(model, folder / "candidate.log") as server,
            scoring_server.running(folder / "noop", folder / "noop.log") as floor,
        ):
            scored = _answers(model, server, held)
            checks += [
                *_figures(scored, held, settings),
                *_against_champion(scored, reigning, held, settings),
                *_against_naive_bayes(scored, held, settings),
                *_slices(scored, held, settings),
                *_behaviour(scored, server, held, settings),
                *_service(scored, server, model, held, settings),
                *_budgets(server, floor, model, settings),
            ]
    return checks


def _answers(model: Path, server: ScoringServer, held: Holdout) -> _Scored:
    return _Scored(registry.metadata(model), server.spam_probability(held.texts))


def _check(name: str, passed: bool, value: object, bound: str, why: str) -> Check:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Check(name, shown, bound, "passed" if passed else "failed", why)


def _provenance(candidate: Version, held: Holdout, settings: GateSettings) -> Iterator[Check]:
    tags = candidate.run_tags
    commit, dirty = tags.get("git.commit", "unknown"), tags.get("git.dirty", "unknown")
    clean = commit != "unknown" and dirty == "false"
    yield _check(
        "provenance: commit",
        clean or not settings.clean_commit,
        f"{commit[:12]}, {'clean' if clean else 'changed or unknown'}",
        "clean" if settings.clean_commit else "any",
        "the model can be made again from the code it came from",
    )
    tags = candidate.tags
    for name, expected, why in (
        ("data.digest", held.messages.digest, "trained on the data set it is judged by"),
        ("split.digest", held.split.digest, "the holdout was not learnt from"),
    ):
        found = tags.get(name, "unknown")
        yield _check(f"provenance: {name}", found == expected, found[:12], expected[:12], why)
    fallback = tags.get("data.fallback", "unknown")
    yield _check(
        "provenance: no fallback data",
        fallback == "false" or settings.allow_fallback,
        f"data.fallback={fallback}",
        "any" if settings.allow_fallback else "false",
        "not trained on the synthetic sample because the real data could not be had",
    )
    leaky = tags.get("split.leaky", "unknown")
    yield _check(
        "provenance: leak-free split",
        leaky == "false",
        f"split.leaky={leaky}",
        "false",
        "no copy of a holdout message was learnt from",
    )


def _data(held: Holdout, settings: GateSettings) -> Iterator[Check]:
    rows = len(held.frame)
    yield _check(
        "data: holdout rows",
        rows >= settings.min_rows,
        rows,
        f">= {settings.min_rows}",
        "enough messages to tell models apart",
    )
    labels = sorted(held.frame["label"].unique())
    yield _check(
        "data: labels", labels == sorted(LABELS), labels, str(sorted(LABELS)), "both occur"
    )
    low, high = settings.spam_rate
    rate = float(held.spam.mean())
    yield _check(
        "data: spam rate", low <= rate <= high, rate, f"{low} to {high}", "nothing odd was read"
    )
    frame = held.split.frame
    keys = frame["text"].map(duplicate_key)
    crossing = int(
        sum((frame["part"].groupby(by).nunique() > 1).sum() for by in (keys, frame["group"]))
    )
    yield _check(
        "data: separation", crossing == 0, crossing, "0", "texts and groups that stand in two parts"
    )


def _figures(scored: _Scored, held: Holdout, settings: GateSettings) -> Iterator[Check]:
    found: dict[str, float] = {}
    if np.isfinite(scored.scores).all():
        found = evaluation.metrics(held.frame, scored.scores, scored.metadata.thresholds, "x")
    figures = {name.removeprefix("x_"): value for name, value in found.items()}
    bounds = [(name, bound, True) for name, bound in settings.floors.items()]
    bounds += [(name, bound, False) for name, bound in settings.ceilings.items()]
    for name, bound, is_floor in bounds:
        value = figures.get(name, math.nan)
        # Neither comparison holds for NaN, so that a figure that is not defined fails.
        passed = value >= bound if is_floor else value <= bound
        why = "on the holdout" if math.isfinite(value) else "the figure is missing or not finite"
        yield _check(f"figure: {name}", passed, value, f"{'>=' if is_floor else '<='} {bound}", why)


def _against_champion(
    scored: _Scored, reigning: _Scored | None, held: Holdout, settings: GateSettings
) -> Iterator[Check]:
    if reigning is None:
        yield Check("champion", "-", "-", "not applicable", "there is no champion yet")
        return
    groups = held.frame["group"].to_numpy()
    for name, tolerance in settings.tolerances.items():
        figure, sign = _FIGURES[name]
        difference, low, high = significance.paired_difference(
            figure, groups, held.spam, scored.called, reigning.called
        )
        worst = low if sign > 0 else -high
        yield _check(
            f"champion: {name} not worse",
            worst >= -tolerance,
            f"{difference:+.4f} ({low:+.4f} to {high:+.4f})",
            f">= -{tolerance}" if sign > 0 else f"<= {tolerance}",
            "difference to the champion's, 95 % paired bootstrap over groups",
        )
    changed = float(np.mean(scored.called != reigning.called))
    yield _check(
        "champion: churn",
        changed <= settings.churn,
        changed,
        f"<= {settings.churn}",
        "share of the holdout that gets another label",
    )


def _against_naive_bayes(scored: _Scored, held: Holdout, settings: GateSettings) -> Iterator[Check]:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.metrics import f1_score
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    learnt = held.split.frame[held.split.frame["part"] != "test"]
    baseline = make_pipeline(CountVectorizer(), MultinomialNB()).fit(
        learnt["text"], learnt["label"] == "spam"
    )
    simple = float(f1_score(held.spam, baseline.predict(held.texts)))
    ours = float(f1_score(held.spam, scored.called))
    yield _check(
        "baseline: naive Bayes",
        ours - simple >= settings.beats_naive_bayes_by,
        ours - simple,
        f">= {settings.beats_naive_bayes_by}",
        f"F1 {ours:.4f} against {simple:.4f} of naive Bayes, fitted on the other parts",
    )


def _slices(scored: _Scored, held: Holdout, settings: GateSettings) -> Iterator[Check]:
    right = scored.called == held.spam
    for name, rows in slices.of(held.frame):
        of_class = [rows & (held.spam == kind) for kind in (True, False)]
        counts = [int(members.sum()) for members in of_class]
        size = f"{sum(counts)} messages, {counts[0]} of them spam"
        if sum(counts) < settings.slice_rows or min(counts) < settings.slice_class_rows:
            yield Check(f"slice: {name}", "-", "-", "not applicable", f"too few: {size}")
            continue
        balanced = float(np.mean([right[members].mean() for members in of_class]))
        bound = settings.slice_balanced_accuracy
        yield _check(
            f"slice: {name}",
            balanced >= bound,
            balanced,
            f">= {bound}",
            f"balanced accuracy on {size}",
        )


def _behaviour(
    scored: _Scored, server: ScoringServer, held: Holdout, settings: GateSettings
) -> Iterator[Check]:
    bounds = {
        "minimum": settings.minimum_failures,
        "invariance": settings.invariance_failures,
        "direction": settings.direction_failures,
    }
    threshold = scored.metadata.threshold
    for name, share in behaviour.failures(server.spam_probability, threshold, held.texts):
        bound = bounds[name.partition(":")[0]]
        yield _check(
            f"behaviour: {name}", share <= bound, share, f"<= {bound}", "messages that fail"
        )


def _service(
    scored: _Scored, server: ScoringServer, model: Path, held: Holdout, settings: GateSettings
) -> Iterator[Check]:
    """Check what users get from the server: every payload, odd texts, refusals."""
    local = registry.load_folder(model).spam_probability(held.texts)
    gap = float(np.abs(local - scored.scores).max())
    yield _check(
        "service: parity",
        gap <= settings.parity,
        gap,
        f"<= {settings.parity}",
        "largest gap between a fresh server's scores and those of this process",
    )
    (expected,) = server.spam_probability([_TEXT])
    for name, body in _payloads(_TEXT).items():
        answer = server.post(body)
        found = answer.json()["predictions"][0] if answer.ok else {}
        gap = abs(found.get("spam_probability", math.inf) - expected)
        yield _check(
            f"service: payload {name}",
            gap <= settings.parity,
            answer.status_code,
            "200",
            "answered, with the score of the other payloads",
        )
    odd = server.score({"inputs": list(_ODD_TEXTS)})
    sound = all(0 <= row["spam_probability"] <= 1 and row["label"] in LABELS for row in odd)
    yield _check(
        "service: odd texts",
        sound and len(odd) == len(_ODD_TEXTS),
        len(odd),
        str(len(_ODD_TEXTS)),
        "empty, emoji, right-to-left, NUL, 100 kB: labelled, 0 to 1",
    )
    for name, body in BAD_BODIES.items():
        answer = server.post(body)
        refused = answer.status_code == 400 and "Traceback" not in answer.text
        yield _check(
            f"service: {name} refused", refused, answer.status_code, "400", "without a traceback"
        )


def _payloads(text: str) -> dict[str, Any]:
    return {
        "dataframe_split": {"dataframe_split": {"columns": ["text"], "data": [[text]]}},
        "dataframe_records": {"dataframe_records": [{"text": text}]},
        "inputs": {"inputs": {"text": [text]}},
        "inputs, list": {"inputs": [text]},
        "instances": {"instances": [{"text": text}]},
        "instances, list": {"instances": [text]},
    }


def _budgets(
    server: ScoringServer, floor: ScoringServer, model: Path, settings: GateSettings
) -> Iterator[Check]:
    slow, fast = _p95_ms([server, floor], settings.requests)
    yield _check(
        "budget: latency",
        slow <= settings.latency_ratio * fast,
        slow / fast,
        f"<= {settings.latency_ratio}",
        f"p95 {slow:.1f} ms a message, {fast:.1f} ms for a model that does nothing",
    )
    ratio = server.start_seconds / floor.start_seconds
    yield _check(
        "budget: start",
        ratio <= settings.start_ratio,
        ratio,
        f"<= {settings.start_ratio}",
        f"{server.start_seconds:.1f} s, {floor.start_seconds:.1f} s for a model that does nothing",
    )
    memory = server.memory_mb()
    yield _check(
        "budget: memory",
        memory <= settings.memory_mb,
        memory,
        f"<= {settings.memory_mb} MB",
        f"resident; {floor.memory_mb():.0f} MB for a model that does nothing",
    )
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) / 2**20
    yield _check(
        "budget: artifact",
        size <= settings.artifact_mb,
        size,
        f"<= {settings.artifact_mb} MB",
        "size of the servable model",
    )


def _p95_ms(servers: Sequence[ScoringServer], count: int) -> list[float]:
    """Return the 95th percentile of each server's answer time, measured in turns."""
    times: list[list[float]] = [[] for _ in servers]
    body = {"inputs": [_TEXT]}
    for _ in range(count):
        for server, taken in zip(servers, times, strict=True):
            start = time.perf_counter()
            server.post(body)
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.percentile(taken, 95)) for taken in times]


def failed(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that failed."""
    return [check for check in checks if check.verdict == "failed"]


def as_table(checks: Sequence[Check]) -> str:
    """Return the results as a Markdown table."""
    rows = [(c.name, c.value, c.bound, c.verdict, c.why) for c in checks]
    return tables.markdown(("check", "value", "bound", "verdict", "why"), rows)


def as_dicts(checks: Sequence[Check], held: Holdout) -> dict[str, Any]:
    """Return the results as JSON-ready data, with the digest of the messages scored."""
    return {
        "holdout_digest": frame_digest(held.frame),
        "holdout_rows": len(held.frame),
        "checks": [asdict(check) for check in checks],
    }
