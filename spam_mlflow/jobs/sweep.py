"""Search hyper-parameters: one parent run, a nested run for every trial."""

import contextlib
import dataclasses
import logging
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig

from spam_mlflow.config import commands
from spam_mlflow.config.compose import flatten
from spam_mlflow.config.paths import CONF, INSTALLED, conf_folders, working_root
from spam_mlflow.config.schema import SweepSettings
from spam_mlflow.data import csv_cells
from spam_mlflow.data.splitters import Split
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import artifacts, plots
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.sweep import shared_study, trials
from spam_mlflow.sweep import study as studies
from spam_mlflow.sweep.search_space import SearchSpace, applied, overlay
from spam_mlflow.sweep.shared_study import SharedStudy
from spam_mlflow.sweep.study import Progress, Study
from spam_mlflow.sweep.study_database import StudyDatabase
from spam_mlflow.sweep.trials import SweepContext
from spam_mlflow.tracking import lineage, links, run_logging, run_names, runs
from spam_mlflow.tracking.run_folder import PLOTS_FOLDER, run_folder
from spam_mlflow.training.experiment import load_messages, split_messages, trained_split

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_SHOWN_TRIALS = 5
_LEAVE_SECONDS = 15.0  # less than a container is given to end
_COMMON = "common"  # user attribute of a study: what its trials have in common
# Keys of a sweep that a training has as well, and that its result depends on.
_KEPT = ("data", "split.", "seed", "sources", "model.", "train.", "storage.")


def run(settings: SweepSettings, cfg: DictConfig) -> float:
    """Run a sweep, or continue it, and log it to a parent run.

    Returns:
        The best value of the objective; NaN where other processes still run trials.

    Raises:
        UserError: If the sweep cannot run as configured, or if no trial was completed.
    """
    space = SearchSpace.of(settings.search, cfg)
    name = settings.study or f"{settings.model.name}-{space.objective}"
    target = _overlay_file(settings.save_as, name)
    database = StudyDatabase.of(settings.study_db)
    runs.connect()
    with _open_study(name, database, settings) as study, run_folder(settings.output_dir) as folder:
        # The study is checked before its run is opened, which may be that of a sweep on other data.
        messages = load_messages(settings, folder)
        split = trained_split(settings.model, _without_test(split_messages(settings, messages)))
        sweep = SweepContext(cfg, settings, space.objective, name, database, messages, split)
        if isinstance(study, Study):
            run_id, progress, preset = _alone(study, sweep, space, folder)
        else:
            run_id, progress, preset = _together(study, sweep, space, folder)
    logger.info("View: %s", links.run_page(run_id))
    if preset is None:
        logger.info("Other processes still run trials; the last of them logs the results")
        return math.nan
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(preset, encoding="utf-8")
    _announce(progress, sweep, target)
    assert progress.best.value is not None
    return progress.best.value


def _open_study(
    name: str, database: StudyDatabase, settings: SweepSettings
) -> contextlib.AbstractContextManager[Study | SharedStudy]:
    if database.file is not None:
        return studies.open_study(name, database, settings.seed, settings.prune)
    return shared_study.open_study(name, database, settings.prune, settings.lost_after)


def _alone(
    study: Study, sweep: SweepContext, space: SearchSpace, folder: Path
) -> tuple[str, Progress, str | None]:
    """Work on a study that no other process works on.

    Returns:
        The ID of the parent run, the trials, and the best parameters as a preset.
    """
    _begin(study.optuna, space, sweep)
    parent = studies.parent_run(study.optuna)
    with runs.run(sweep.settings.storage, parent, monitored=True) as active:
        studies.set_parent_run(study.optuna, active.info.run_id)
        _log_beginning(sweep)
        trials.run_all(sweep, space, study, active.info.run_id)
        preset = _conclude(sweep, study.optuna, study.progress, folder)
    return active.info.run_id, study.progress, preset


def _together(
    study: SharedStudy, sweep: SweepContext, space: SearchSpace, folder: Path
) -> tuple[str, Progress, str | None]:
    """Work on a study that other processes may work on as well.

    Returns:
        The ID of the parent run, the trials, and the best parameters as a preset; None where other
        processes still run trials.
    """
    with study.locked():
        study.join(sweep.settings.seed, sweep.settings.lost_after)
        _begin(study.optuna, space, sweep)
        _open_parent(study, sweep)
    try:
        trials.run_all(sweep, space, study, study.parent)
    except BaseException as error:
        _give_up(study, error)
        raise
    with study.locked():
        preset = _conclude_once(sweep, study, folder) if study.is_over else None
    return study.parent, study.progress, preset


def _log_beginning(sweep: SweepContext) -> None:
    """Log to the active run what is known before the first trial."""
    run_names.name_run(f"sweep {sweep.study}")
    run_logging.log_parameters(flatten(sweep.cfg))
    lineage.log_code_version()
    lineage.log_data(sweep.messages, sweep.split)


def _open_parent(study: SharedStudy, sweep: SweepContext) -> None:
    """Make the run that the trials of all processes are nested in, unless there is one."""
    parent = studies.parent_run(study.optuna)
    if parent is not None:
        runs.require_run(study.client, parent, f"study={sweep.study!r}")
        return
    # A process may be killed before it can store the run in the study.
    found = runs.tagged(study.client, study.tag)
    with runs.run(sweep.settings.storage, found, tags=study.tag) as active:
        _log_beginning(sweep)
    study.client.update_run(active.info.run_id, "RUNNING")
    studies.set_parent_run(study.optuna, active.info.run_id)


def _give_up(study: SharedStudy, error: BaseException) -> None:
    """Leave the trials of this process to others, for as long as its servers may take."""
    leaving = threading.Thread(target=_leave, args=(study, error), daemon=True, name="give up")
    leaving.start()
    leaving.join(_LEAVE_SECONDS)
    if leaving.is_alive():
        logger.warning(
            "The study's database or the tracking store does not answer; the trials of this "
            "process will count as lost"
        )


def _leave(study: SharedStudy, error: BaseException) -> None:
    """Leave the trials of this process to others, and the parent run to them if there are any."""
    with contextlib.suppress(Exception), study.locked():  # a store may be what has failed
        if not study.give_up():
            return
        if isinstance(error, KeyboardInterrupt):
            study.client.set_terminated(study.parent, "KILLED")
        else:
            name = study.client.get_run(study.parent).info.run_name
            runs.close_unfinished(study.client, study.parent, name, error)


def _conclude_once(sweep: SweepContext, study: SharedStudy, folder: Path) -> str:
    """Log the results, unless another process has, and return the preset; the study is locked."""
    if study.is_concluded:
        return _preset(sweep, study.progress)
    study.close_lost_runs()
    with runs.run(sweep.settings.storage, study.parent):
        preset = _conclude(sweep, study.optuna, study.progress, folder)
    study.set_concluded()
    return preset


def _overlay_file(save_as: str | None, study: str) -> Path | None:
    """Return the file for the best parameters; raise UserError if it is another preset's."""
    if save_as is None:
        return None
    for folder in conf_folders():
        file = folder / "experiment" / f"{save_as}.yaml"
        if file.exists() and f"of the sweep {study}:" not in file.read_text(encoding="utf-8"):
            raise UserError(f"save_as={save_as!r}: experiment={save_as} exists; give another name")
    conf = working_root() / "conf" if INSTALLED else CONF
    return conf / "experiment" / f"{save_as}.yaml"


def _without_test(split: Split) -> Split:
    """Return `split` without its test part, which a sweep must not read."""
    if split.leaky:
        raise UserError(
            f"split={split.name}: its validation part is its test part, and a sweep would choose "
            "by it; take split=grouped"
        )
    kept = split.rows_without_test.reset_index(drop=True)
    return dataclasses.replace(split, frame=kept)


def _begin(study: "optuna.Study", space: SearchSpace, sweep: SweepContext) -> None:
    """Have the given configuration tried first, and refuse a study of other data or settings."""
    known = study.user_attrs.get("split.digest", sweep.split.digest)
    if known != sweep.split.digest:
        raise UserError(
            f"study={sweep.study!r} was begun on other messages or another split, so its metrics "
            "cannot be compared; give another study"
        )
    common = space.common(sweep.cfg)
    _require_common(sweep.study, study.user_attrs.get(_COMMON, common), common)
    study.set_user_attr("split.digest", sweep.split.digest)
    study.set_user_attr(_COMMON, common)
    begun = len(Progress(study.trials).ended)
    if study.trials:
        logger.info("Going on with the sweep %s after %s trials", sweep.study, begun)
    else:
        study.enqueue_trial(space.current(sweep.cfg))


def _require_common(study: str, known: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise UserError if the trials of a study have other settings than those of this sweep."""
    other = [
        f"{key}={known.get(key)}, here {here.get(key)}"
        for key in {**here, **known}
        if known.get(key) != here.get(key)
    ]
    if other:
        more = f" and {len(other) - 1} more" if other[1:] else ""
        raise UserError(
            f"study={study!r} was begun with other settings ({other[0]}{more}), so its trials "
            "cannot be compared; give another study"
        )


def _conclude(sweep: SweepContext, study: "optuna.Study", progress: Progress, folder: Path) -> str:
    """Log the results to the parent run, and return the best parameters as a preset."""
    preset = _preset(sweep, progress)
    artifacts.write_config(sweep.cfg, folder)
    (folder / "best.yaml").write_text(preset, encoding="utf-8")
    _write(progress, study, sweep, folder)
    run_logging.describe_run(_description(progress, sweep))
    run_logging.log_folder(folder)
    return preset


def _preset(sweep: SweepContext, progress: Progress) -> str:
    name = sweep.settings.save_as or sweep.study
    return overlay(sweep.cfg, progress.best.params, name, _comment(progress, sweep))


def _comment(progress: Progress, sweep: SweepContext) -> str:
    best = f"{sweep.objective} {progress.best.value:.4f}"
    return f"Best of {len(progress.ended)} trials of the sweep {sweep.study}: {best}."


def _write(progress: Progress, study: "optuna.Study", sweep: SweepContext, folder: Path) -> None:
    """Write the table of trials, and the plots of history and importances."""
    objective, lost = sweep.objective, progress.lost
    rows = [
        {
            "trial": trial.number,
            "state": "lost" if trial.number in lost else trial.state.name.lower(),
            objective: trial.value if trial.state.name == "COMPLETE" else None,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
            "run": trial.user_attrs.get(studies.RUN_ID),
        }
        for trial in progress.trials
    ]
    csv_cells.write(pd.DataFrame(rows), folder / "trials.csv", sweep.settings.safe_csv)
    target = folder / PLOTS_FOLDER
    target.mkdir(exist_ok=True)
    title = f"sweep {sweep.study}"
    values = [row[objective] if row[objective] is not None else math.nan for row in rows]
    plots.search_history(values, objective, title).savefig(target / "history.png")
    shares = _importances(study, progress)
    if shares:
        plots.importances(shares, objective, title).savefig(target / "importance.png")


def _importances(study: "optuna.Study", progress: Progress) -> dict[str, float]:
    """Return each parameter's share of the objective's variance, the largest first.

    Nothing is returned if there are too few trials, or if all have the same value.

    Source: PED-ANOVA (Watanabe et al. 2023), as implemented by Optuna.
    """
    from optuna.importance import get_param_importances

    values = {trial.value for trial in progress.in_state("COMPLETE")}
    if len(values) < 2:
        return {}
    return get_param_importances(study)


def _description(progress: Progress, sweep: SweepContext) -> str:
    complete = progress.in_state("COMPLETE")
    ranked = sorted(complete, key=lambda trial: -(trial.value or 0))[:_SHOWN_TRIALS]
    rows = [
        (str(t.number), f"{t.value:.4f}", ", ".join(f"{k}={v}" for k, v in t.params.items()))
        for t in ranked
    ]
    counts = ", ".join(
        f"{len(progress.in_state(state))} {word}"
        for state, word in (("COMPLETE", "complete"), ("PRUNED", "pruned"), ("FAIL", "failed"))
    )
    lost = f"; {len(progress.lost)} lost and run again" if progress.lost else ""
    table = markdown(("trial", sweep.objective, "parameters"), rows)
    comment = _comment(progress, sweep)
    return f"{comment}\n\n{counts}{lost}. The test part was not read.\n\n{table}"


def _training(progress: Progress, sweep: SweepContext, target: Path | None) -> str:
    """Return the command that trains with the best parameters, on the data of the sweep."""
    best = flatten(applied(sweep.cfg, progress.best.params))
    kept = {key: value for key, value in best.items() if key.startswith(_KEPT)}
    preset = [f"experiment={target.stem}"] if target else []
    groups = (*(() if target else ("model",)), "data", "split", "storage")
    return commands.command("main", commands.overrides("main", kept, groups, preset))


def _announce(progress: Progress, sweep: SweepContext, target: Path | None) -> None:
    logger.info("%s", _comment(progress, sweep))
    logger.info("Train with it: %s", _training(progress, sweep, target))
    missing = sweep.settings.trials - len(progress.ended)
    if missing > 0:
        logger.info("%s trials are missing; the same command goes on with them", missing)
