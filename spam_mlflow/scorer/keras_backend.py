"""Importing Keras and TensorFlow late, and without TensorFlow's messages on import."""

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
    """Return the `keras` module with its TensorFlow backend.

    The first call imports it, which takes seconds. TensorFlow then writes to the error stream that
    it found no GPU, before any setting can reach it; its messages are shown only if the import
    fails.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one result per seed on every x86 machine
    with _stderr_captured():
        import keras
        import tensorflow as tf
    # Keras traces its prediction again for every shape, which is intended here; TensorFlow's
    # warning about it would help no one.
    tf.get_logger().setLevel("ERROR")
    return keras


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Keras's warning about its legacy file format, where the user has asked for it."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def clear_session() -> None:
    """Free the memory that earlier networks of this process hold."""
    load().utils.clear_session()


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed the random numbers of Python, NumPy and TensorFlow.

    Args:
        seed: The random seed.
        deterministic: Whether TensorFlow must also sum in a fixed order, which is slower.
    """
    keras = load()
    keras.utils.set_random_seed(seed)
    if deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _stderr_captured() -> Iterator[None]:
    """Send file descriptor 2 to a scratch file, which is printed only if the block raises."""
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
