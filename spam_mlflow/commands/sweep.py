"""Search hyper-parameters: one parent run, a nested run for every trial."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from omegaconf import DictConfig

from spam_mlflow import (
    config,
    figures,
    reports,
    s3,
    search,
    tables,
    tracking,
    trials,
    wiring,
    workspace,
)
from spam_mlflow.errors import UserError
from spam_mlflow.search import Progress, Space
from spam_mlflow.settings import SweepSettings
from spam_mlflow.split import Split
from spam_mlflow.trials import Base

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_SHOWN_TRIALS = 5


def run(cfg: DictConfig) -> float:
    """Run the sweep that `cfg` describes, or go on with it, and return the best value."""
    settings = wiring.top_level(SweepSettings, cfg)
    space = Space.of(cfg)
    name = settings.study or f"{cfg.model.name}-{space.objective}"
    target = _overlay_file(settings.save_as, name)
    tracking.connect()
    file = Path(settings.study_db or config.ROOT / "sweeps.db").expanduser().resolve()
    with (
        search.opened(name, file, settings.seed, settings.prune) as study,
        workspace.folder(cfg.output_dir) as folder,
    ):
        # Before the run is opened: it may be that of a sweep that is none of this one's business.
        messages = workspace.load_messages(cfg.data, settings.sources, folder)
        split = _without_test(wiring.build(cfg.split).split(messages))
        base = Base(cfg, settings, space.objective, name, file, messages, split)
        _begin(study, space, base)
        with tracking.run(s3.settings(cfg), search.parent_run(study), monitored=True) as active:
            search.set_parent_run(study, active.info.run_id)
            tracking.name_run(f"sweep {name}")
            tracking.log_parameters(config.flatten(cfg))
            tracking.log_code_version()
            tracking.log_data(messages, split)
            trials.run_all(base, space, study, active.info.run_id)
            progress = Progress(study.get_trials())
            preset = _conclude(base, study, progress, folder)
    if target is not None:
        target.write_text(preset, encoding="utf-8")
    _announce(progress, base, target)
    assert progress.best.value is not None
    return progress.best.value


def _overlay_file(save_as: str | None, study: str) -> Path | None:
    """Return where the best parameters go; raises UserError where another preset is there."""
    if save_as is None:
        return None
    file = config.CONF / "experiment" / f"{save_as}.yaml"
    if file.exists() and f"of the sweep {study}:" not in file.read_text(encoding="utf-8"):
        raise UserError(f"save_as={save_as!r}: experiment={save_as} exists; give another name")
    return file


def _without_test(split: Split) -> Split:
    """Return `split` without its test part, which a sweep must not read."""
    if split.leaky:
        raise UserError(
            f"split={split.name}: its validation part is its test part, and a sweep would choose "
            "by it; take split=grouped"
        )
    kept = split.frame[split.frame["part"] != "test"].reset_index(drop=True)
    return dataclasses.replace(split, frame=kept)


def _begin(study: "optuna.Study", space: Space, base: Base) -> None:
    """Have the configuration as it stands tried first; refuse a study of other data."""
    known = study.user_attrs.get("split.digest", base.split.digest)
    if known != base.split.digest:
        raise UserError(
            f"study={base.study!r} was begun on other messages or another split, so its figures "
            "cannot be compared; give another study"
        )
    study.set_user_attr("split.digest", base.split.digest)
    begun = len(Progress(study.trials).ended)
    if study.trials:
        logger.info("Going on with the sweep %s after %s trials", base.study, begun)
    else:
        study.enqueue_trial(space.current(base.cfg))


def _conclude(base: Base, study: "optuna.Study", progress: Progress, folder: Path) -> str:
    """Log what came out to the parent run, and return the best parameters as a preset."""
    comment = _comment(progress, base)
    preset = search.overlay(
        base.cfg, progress.best.params, base.settings.save_as or base.study, comment
    )
    reports.write_config(base.cfg, folder)
    (folder / "best.yaml").write_text(preset, encoding="utf-8")
    _write(progress, study, base, folder)
    tracking.describe_run(_description(progress, base.objective, comment))
    tracking.log_folder(folder)
    return preset


def _comment(progress: Progress, base: Base) -> str:
    best = f"{base.objective} {progress.best.value:.4f}"
    return f"Best of {len(progress.ended)} trials of the sweep {base.study}: {best}."


def _write(progress: Progress, study: "optuna.Study", base: Base, folder: Path) -> None:
    """Write the table of trials, and the figures of history and importance."""
    objective = base.objective
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            objective: trial.value if trial.state.name == "COMPLETE" else None,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
            "run": trial.user_attrs.get(search.RUN_ID),
        }
        for trial in progress.trials
    ]
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    target = folder / "figures"
    target.mkdir(exist_ok=True)
    title = f"sweep {base.study}"
    values = [row[objective] if row[objective] is not None else math.nan for row in rows]
    figures.search_history(values, objective, title).savefig(target / "history.png")
    shares = _importances(study, progress)
    if shares:
        figures.importances(shares, objective, title).savefig(target / "importance.png")


def _importances(study: "optuna.Study", progress: Progress) -> dict[str, float]:
    """Return each parameter's share in the objective's variance, the largest first.

    Empty where there are too few trials to tell, or all have the same value.
    """
    from optuna.importance import get_param_importances

    values = {trial.value for trial in progress.in_state("COMPLETE")}
    if len(values) < 2:
        return {}
    return get_param_importances(study)


def _description(progress: Progress, objective: str, comment: str) -> str:
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
    table = tables.markdown(("trial", objective, "parameters"), rows)
    return f"{comment}\n\n{counts}. The test part was not read.\n\n{table}"


def _announce(progress: Progress, base: Base, target: Path | None) -> None:
    logger.info("%s", _comment(progress, base))
    if target is not None:
        logger.info("Train with it: python -m spam_mlflow main experiment=%s", target.stem)
    missing = base.settings.trials - len(progress.ended)
    if missing > 0:
        logger.info("%s trials are missing; the same command goes on with them", missing)
