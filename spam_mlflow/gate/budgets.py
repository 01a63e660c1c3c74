"""Checks of what a version costs: its latency, start, memory and size."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.gate.check import Check, check
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.gate.service import TEXT


def budget_checks(
    server: ScoringServer, baseline: ScoringServer, model: Path, settings: GateSettings
) -> Iterator[Check]:
    """Check what the version costs, in comparison with the no-op baseline.

    Args:
        server: Serves the version.
        baseline: Serves the no-op baseline on the same machine.
        model: Local folder with the version's logged model.
        settings: Bounds of the checks.

    Yields:
        The results for latency, start, memory and size of the model.
    """
    p95, baseline_p95 = _p95_ms([server, baseline], settings.requests)
    yield check(
        "budget: latency",
        p95 <= settings.latency_ratio * baseline_p95,
        p95 / baseline_p95,
        f"<= {settings.latency_ratio}",
        f"p95 {p95:.1f} ms a message, {baseline_p95:.1f} ms for the no-op baseline",
    )
    ratio = server.start_seconds / baseline.start_seconds
    yield check(
        "budget: start",
        ratio <= settings.start_ratio,
        ratio,
        f"<= {settings.start_ratio}",
        f"{server.start_seconds:.1f} s, {baseline.start_seconds:.1f} s for the no-op baseline",
    )
    memory = server.memory_mb()
    yield check(
        "budget: memory",
        memory <= settings.memory_mb,
        memory,
        f"<= {settings.memory_mb} MB",
        f"resident; {baseline.memory_mb():.0f} MB for the no-op baseline",
    )
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) / 2**20
    yield check(
        "budget: artifact",
        size <= settings.artifact_mb,
        size,
        f"<= {settings.artifact_mb} MB",
        "size of the logged model",
    )


def _p95_ms(servers: Sequence[ScoringServer], count: int) -> list[float]:
    """Return the 95th percentile of each server's latency in ms, with requests taken in turns."""
    times: list[list[float]] = [[] for _ in servers]
    body = {"inputs": [TEXT]}
    for _ in range(count):
        for server, taken in zip(servers, times, strict=True):
            start = time.perf_counter()
            server.post(body)
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.percentile(taken, 95)) for taken in times]
