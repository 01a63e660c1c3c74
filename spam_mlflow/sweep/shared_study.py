"""Studies on a database server, which several processes work on at the same time.

Each process takes a trial under the study's lock, so that their number is kept, and records a
heartbeat while it runs. Optuna marks a trial without heartbeats as failed and queues it again, for
whichever process comes next. All processes stay until every trial has ended, so that there is
one to run the last trial again; the first of them to see that concludes the sweep.
"""

import contextlib
import logging
import math
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from spam_mlflow.errors import UserError
from spam_mlflow.sweep import study as studies
from spam_mlflow.sweep import trial_runs
from spam_mlflow.sweep.study import Outcome, Progress
from spam_mlflow.sweep.study_database import StudyDatabase, add_lock, exclusive, explained

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

logger = logging.getLogger(__name__)

_RETRIES = 3  # of a trial whose process was lost; it may itself be what kills the process
_END_SECONDS = 5.0  # for which the end of a heartbeat is waited for
_ERROR = "error"  # user attribute of a trial that has failed by itself
# User attributes of a study
_PROCESSES = "processes"  # how many have worked on it so far
_LOST_AFTER = "lost_after"
_STATUS = "parent_run_status"
_KEY = "key"  # what is only this study's, unlike its name


class Heartbeat:
    """Records in the background that the trials of this process are running."""

    def __init__(self, storage: "RDBStorage") -> None:
        self._storage = storage
        self._trials: dict[int, Trial] = {}
        self._ended = threading.Event()
        self._silent = False
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_END_SECONDS)  # a server that hangs must not keep the process

    @property
    def trials(self) -> "list[Trial]":
        """The trials of this process that are running."""
        return list(self._trials.values())

    def add(self, trial: "Trial") -> None:
        """Record heartbeats of a trial from now on."""
        self._trials[trial._trial_id] = trial

    def remove(self, trial: "Trial") -> None:
        """Record no more heartbeats of a trial."""
        self._trials.pop(trial._trial_id, None)

    def record(self) -> None:
        """Record a heartbeat of all trials."""
        for trial in self.trials:
            self._storage.record_heartbeat(trial._trial_id)

    def _beat(self) -> None:
        interval = self._storage.get_heartbeat_interval()
        while not self._ended.wait(interval):
            try:
                self.record()
                self._silent = False
            except Exception:  # the server may be back in time
                if not self._silent:
                    logger.warning("The database of the study does not answer; it is tried again")
                self._silent = True


@dataclass(frozen=True)
class SharedStudy:
    """A study that other processes may work on as well.

    Attributes:
        optuna: The study itself.
        storage: Its storage.
        heartbeat: Of the trials that this process runs.
        client: Client of the tracking store.
    """

    optuna: "optuna.Study"
    storage: "RDBStorage"
    heartbeat: Heartbeat
    client: MlflowClient = field(default_factory=MlflowClient)

    @property
    def progress(self) -> Progress:
        """The trials so far."""
        return Progress(self.optuna.get_trials(deepcopy=False))

    @property
    def parent(self) -> str:
        """The ID of the run that the trials are nested in."""
        run_id = studies.parent_run(self.optuna)
        assert run_id is not None
        return run_id

    @property
    def tag(self) -> dict[str, str]:
        """The tag that the parent run has from the beginning; the study is locked."""
        key = self.optuna.user_attrs.get(_KEY)
        if key is None:
            key = uuid.uuid4().hex
            self.optuna.set_user_attr(_KEY, key)
        return {"sweep.key": str(key)}

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which no other process begins a trial or concludes the sweep."""
        return exclusive(self.storage, self.optuna)

    def join(self, seed: int, lost_after: int) -> None:
        """Draw other values than all processes before; the study is locked.

        Args:
            seed: Random seed of the sweep.
            lost_after: Seconds after which this process counts a trial as lost.

        Raises:
            UserError: If processes that are at work go by another time.
        """
        attributes = self.optuna.user_attrs
        known = attributes.get(_LOST_AFTER, lost_after)
        if known != lost_after and self.progress.in_state("RUNNING"):
            raise UserError(
                f"lost_after={lost_after}: the processes that are at work on the study have "
                f"lost_after={known}; give all of them the same"
            )
        number = attributes.get(_PROCESSES, 0)
        self.optuna.set_user_attr(_LOST_AFTER, lost_after)
        self.optuna.set_user_attr(_PROCESSES, number + 1)
        self.optuna.sampler = studies.sampler(seed + number)

    def next_trials(self, number: int, timeout: float | None) -> "Iterator[Trial | None]":
        """Yield trials until as many as are wanted have ended, also those of other processes.

        Args:
            number: Trials in total, of all processes.
            timeout: Seconds after which this process begins no further trial, and waits for none;
                None for no limit.

        Yields:
            A trial; None if none can be begun before another one has ended.
        """
        deadline = time.monotonic() + (timeout or math.inf)
        waiting = False
        while time.monotonic() < deadline:
            with self.locked():
                trial = self._take(number)
                # Of more trials than are wanted here, none would have to be run again here.
                others = self._others() if len(self.progress.ended) < number else 0
            if trial is None:
                if not others and not self.heartbeat.trials:
                    return
                if others and not waiting:
                    logger.info("Waiting for other processes, which run %s of the trials", others)
            waiting = trial is None
            yield trial

    def _take(self, number: int) -> "Trial | None":
        """Begin a trial unless enough have been begun; the study is locked."""
        self._queue_lost()
        if self.progress.begun >= number:
            return None
        if not self.progress.in_state("WAITING"):
            self.optuna.enqueue_trial({})
        # A trial has a heartbeat before it runs: without one, it would never count as lost.
        for waiting in self.progress.in_state("WAITING"):
            self.storage.record_heartbeat(waiting._trial_id)
        with warnings.catch_warnings():  # heartbeats are recorded, although not by Optuna
            warnings.filterwarnings("ignore", "Heartbeat of storage")
            trial = self.optuna.ask()
        self.heartbeat.add(trial)
        # On another machine, `mlflow run` may have ended the run that it made, with its process.
        if self.client.get_run(self.parent).info.status != "RUNNING":
            self.client.update_run(self.parent, "RUNNING")
        if self._status() != "RUNNING":
            self._set_status("RUNNING")
        return trial

    def _queue_lost(self) -> None:
        """Queue the trials of lost processes again; the study is locked."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials

        self.heartbeat.record()  # the server may have been away for long
        with warnings.catch_warnings():
            studies.ignore_experimental()
            fail_stale_trials(self.optuna)
            again = RetryHeartbeatStaleTrialCallback()
            # Not as Optuna's callback: a process that is killed before it would lose the trial.
            for trial in self.progress.in_state("FAIL"):
                if _is_lost(trial) and len(again.retry_history(trial)) < _RETRIES:
                    again(self.optuna, trial)
                    logger.warning(
                        "Trial %s has ended with its process, and is run again", trial.number
                    )
                    trial_runs.close_lost(self.client, self.parent, trial.number)

    def _others(self) -> int:
        """Return the number of trials that other processes run."""
        own = {trial.number for trial in self.heartbeat.trials}
        return len({trial.number for trial in self.progress.in_state("RUNNING")} - own)

    def holds(self, trial: "Trial") -> bool:
        """Return whether a trial is still this process's own, and not counted as lost."""
        return self.storage.get_trial(trial._trial_id).state.name == "RUNNING"

    def drop(self, trial: "Trial") -> None:
        """Forget a trial that is not this process's own any more."""
        self.heartbeat.remove(trial)

    def tell(self, trial: "Trial", outcome: Outcome) -> bool:
        """End a trial of `next_trials`, and return whether it was still this process's own."""
        from optuna.trial import TrialState

        with self.locked():  # under which trials count as lost
            self.heartbeat.remove(trial)
            if not self.holds(trial):
                return False
            if outcome.state == "FAIL":
                trial.set_user_attr(_ERROR, outcome.error)
            self.optuna.tell(trial.number, outcome.value, TrialState[outcome.state])
        return True

    def give_up(self) -> bool:
        """Queue the trials of this process again; the study is locked.

        Returns:
            Whether the parent run is to be closed, since no other process runs a trial or has
            concluded the sweep.
        """
        from optuna.trial import TrialState

        for trial in self.heartbeat.trials:
            self.heartbeat.remove(trial)
            if self.holds(trial):
                self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        self._queue_lost()
        if self._others() or self.is_concluded:
            return False
        self._set_status("KILLED")
        return True

    @property
    def is_over(self) -> bool:
        """Whether no process runs a trial; the study is locked."""
        self._queue_lost()
        return not self.progress.in_state("RUNNING")

    @property
    def is_concluded(self) -> bool:
        """Whether a process has concluded the sweep since the last trial."""
        return self._status() == "FINISHED"

    def set_concluded(self) -> None:
        """Store that the sweep is concluded, in the end; the study is locked."""
        self._set_status("FINISHED")

    def close_lost_runs(self) -> None:
        """Close all runs that lost processes have left open."""
        for trial in filter(_is_lost, self.progress.trials):
            trial_runs.close_lost(self.client, self.parent, trial.number)

    def _status(self) -> str:
        return str(self.optuna.user_attrs.get(_STATUS, "RUNNING"))

    def _set_status(self, status: str) -> None:
        self.optuna.set_user_attr(_STATUS, status)


def _is_lost(trial: "FrozenTrial") -> bool:
    """Return whether a trial has failed since its process was lost."""
    return trial.state.name == "FAIL" and _ERROR not in trial.user_attrs


@contextlib.contextmanager
def open_study(
    name: str, database: StudyDatabase, prune: bool, lost_after: int
) -> Iterator[SharedStudy]:
    """Open a study on a database server, or create it.

    Args:
        name: Name of the study.
        database: The server.
        prune: Whether to end trials early that are behind the others.
        lost_after: Seconds without a heartbeat after which a trial counts as lost.

    Yields:
        The study.

    Raises:
        UserError: If the database cannot be opened, or fails while it is in use.
    """
    with explained(database), database.storage(lost_after) as storage:
        study = studies.create(name, storage, prune)
        add_lock(study)
        with Heartbeat(storage) as heartbeat:
            yield SharedStudy(study, storage, heartbeat)
