"""Serve a version with MLflow's scoring server, and store what it predicts."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config.schema import ServeSettings
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.store import Store
from spam_mlflow.serving import app
from spam_mlflow.serving.connections import LimitedConnection
from spam_mlflow.serving.guard import LOOPBACK
from spam_mlflow.serving.recorder import Recorder
from spam_mlflow.serving.served_model import ServedModel
from spam_mlflow.serving.tokens import Tokens
from spam_mlflow.storage import s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)

_PURGE_SECONDS = 3600  # between deletions of what has expired
_STOP_SECONDS = 20  # that requests get to end


def run(settings: ServeSettings, cfg: DictConfig) -> None:
    """Answer requests until the process is ended.

    Raises:
        UserError: If the model or the store cannot be opened, or the port is taken.
    """
    tokens = _tokens(settings)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(settings.host, settings.port))
        store: Store | None = settings.store.open(is_busy=True)
        if store is not None:
            stack.callback(store.close)
        runs.connect()
        s3.configure_mlflow(settings.storage)
        served = ServedModel(MlflowClient(), settings.model_uri)
        parts = app.Parts(served, Recorder(served, store), store, tokens)
        # Before any refresh, which puts back what stood in the slot when it began.
        built = stack.enter_context(app.installed(parts))
        stack.enter_context(_repeated(served.refresh, settings.reload_seconds))
        if tokens is not None:
            stack.enter_context(_repeated(tokens.refresh, settings.reload_seconds))
        if store is not None:
            store.purge()
            stack.enter_context(_repeated(store.purge, _PURGE_SECONDS))
        host, port = listener.getsockname()[:2]
        logger.info("Serving %s at http://%s:%s", served.current.reference, host, port)
        _serve(built, listener)


def _tokens(settings: ServeSettings) -> Tokens | None:
    """Return the tokens that clients must have.

    Raises:
        UserError: If there are none although other machines can reach the server.
    """
    if settings.store.tokens_file is not None:
        return Tokens(Path(settings.store.tokens_file))
    if settings.host not in LOOPBACK:
        raise UserError(
            f"host={settings.host} lets other machines in; set store.tokens_file, or host=127.0.0.1"
        )
    return None


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        UserError: If the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Named as TCP, or asyncio leaves out TCP_NODELAY, and each answer waits 40 ms.
        with contextlib.ExitStack() as stack:
            found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            stack.enter_context(found)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
            stack.pop_all()  # it stays open
            return found
    except OSError as error:
        raise UserError(
            f"host={host} port={port} cannot be listened on: {error.strerror or error}; choose "
            "another port, or port=0"
        ) from error


@contextlib.contextmanager
def _repeated(function: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call a function again and again in a thread of its own during a block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                function()
            except UserError as error:
                logger.warning("%s", error)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_STOP_SECONDS)


def _serve(built: FastAPI, listener: socket.socket) -> None:
    config = uvicorn.Config(
        built,
        http=LimitedConnection,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again that ended it
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
