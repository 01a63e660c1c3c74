"""A tracking server that does not answer: at the start, and while it is waited for."""

import logging
import time

from mlflow.exceptions import MlflowException
from urllib3.util import Retry

from spam_mlflow.config.masking import masked, masked_address
from spam_mlflow.errors import UserError

_PROBE_SECONDS = 10
_RETRIES = "urllib3.connectionpool"  # the logger that tells of each of them
_QUIET_SECONDS = 120  # after which a retry is one of another outage

logger = logging.getLogger(__name__)


def require_answer(uri: str) -> None:
    """Ask the server at `uri` once whether it is there, with MLflow's settings for TLS and log-in.

    Raises:
        UserError: If it does not answer. MLflow itself would retry for minutes.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        http_request(
            get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=_PROBE_SECONDS
        )
    except MlflowException as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"the tracking server MLFLOW_TRACKING_URI={masked_address(uri)} does not answer "
            f"({masked(reason)}); start it, or unset the variable to log to a local file"
        ) from error


def announce_waiting(uri: str) -> None:
    """Have one line logged for each outage of the server at `uri`, instead of one for each retry.

    Args:
        uri: Address of the tracking server.
    """
    log = logging.getLogger(_RETRIES)
    for earlier in [entry for entry in log.filters if isinstance(entry, _OneLine)]:
        log.removeFilter(earlier)
    log.addFilter(_OneLine(uri))


class _OneLine(logging.Filter):
    """Replaces the lines that urllib3 logs for each retry."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri, self._last = uri, -float(_QUIET_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is none of a retry; of an outage, the first is announced."""
        state = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if not isinstance(state, Retry):
            return True
        now, before = time.monotonic(), self._last
        self._last = now
        if now - before >= _QUIET_SECONDS:
            logger.warning(
                "The tracking server %s does not answer; waiting for it for up to %.0f s",
                masked_address(self._uri),
                _remaining_seconds(state),
            )
        return False


def _remaining_seconds(state: Retry) -> float:
    """Return for how long urllib3 goes on trying, besides the time that the attempts take."""
    begun = len(state.history)
    attempts = range(begun, begun + int(state.total or 0))
    return sum(min(state.backoff_max, state.backoff_factor * 2**n) for n in attempts)
