"""Processes that have imported already what takes most of a short run to import."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

_SLOW = ("mlflow.pyfunc", "sklearn.linear_model", "matplotlib.figure", "tensorflow", "keras")
# What the project sets before it imports TensorFlow, see `spam_mlflow.scorer.keras_backend`.
_BEFORE_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


@contextlib.contextmanager
def ready_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes that are forked from one which did nothing but import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_SLOW))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _BEFORE_TENSORFLOW.items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(count, context) as pool:
            yield pool
