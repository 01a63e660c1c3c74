"""Importing Keras and TensorFlow late, and without what TensorFlow prints on the way."""

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType


@functools.cache
def load() -> ModuleType:
    """Return the `keras` module with its TensorFlow backend, imported on the first call (seconds).

    TensorFlow writes to the error stream that it found no GPU before any setting reaches it; what
    it wrote is shown only where the import fails.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one result per seed on every x86 machine
    with _stderr_held_back():
        import keras
        import tensorflow as tf
    # Keras traces prediction anew for every shape; that is meant here, and no one can act on it.
    tf.get_logger().setLevel("ERROR")
    return keras


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what Keras says about a file format being old, where it was asked for by name."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def forget() -> None:
    """Free what earlier networks of this process hold."""
    load().utils.clear_session()


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow; `deterministic` also forbids unordered parallel sums."""
    keras = load()
    keras.utils.set_random_seed(seed)
    if deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Send file descriptor 2 to a scratch file; print it where the block raises."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as scratch:
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        except BaseException:
            scratch.seek(0)
            os.write(original, scratch.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
