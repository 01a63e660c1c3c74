"""Train, evaluate, log and register a classifier."""

import logging

from omegaconf import DictConfig

from spam_mlflow import (
    config,
    evaluation,
    model_card,
    reports,
    results,
    s3,
    tracking,
    training,
    wiring,
    workspace,
)
from spam_mlflow.results import Results
from spam_mlflow.settings import RunSettings, TrainSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Run the main job that `cfg` describes and return the test F1."""
    tracking.connect()
    storage = s3.settings(cfg)
    with tracking.run(storage) as active, workspace.folder(cfg.output_dir) as folder:
        tracking.log_parameters(config.flatten(cfg))
        tracking.log_code_version()
        # Logged first: a store that takes no artifacts is found out before anything is trained.
        tracking.log_file(reports.write_config(cfg, folder))
        job = wiring.settings(RunSettings, {"seed": cfg.seed, "register": cfg.register})
        settings = wiring.settings(TrainSettings, cfg.train, "train.")
        architecture, splitter = wiring.build(cfg.model), wiring.build(cfg.split)

        messages = workspace.load_messages(cfg.data, folder)
        split = splitter.split(messages)
        title = f"{architecture.name} on {messages.name}{' (leaky split)' if split.leaky else ''}"
        tracking.name_run(title)
        tracking.log_data(messages, split)

        fit = training.fit(
            architecture, split, settings, job.seed, messages.digest, tracking.log_epoch
        )
        thresholds = fit.classifier.metadata.thresholds
        validation = evaluation.report(
            split.part("validation"), fit.validation_scores, thresholds, "val"
        )
        test_part = split.part("test")
        scores = fit.classifier.spam_probability(list(test_part["text"]))
        test = evaluation.report(test_part, scores, thresholds, "test")
        metrics = validation.metrics | test.metrics | _speed(fit)

        reports.write_split(split, folder)
        reports.write_figures(test, fit.epochs, title, folder)
        reports.write_errors(evaluation.misclassified(test), folder)
        card = model_card.write(fit.classifier.metadata, messages, split, metrics, settings.ham_fpr)
        (folder / results.CARD_FILE).write_text(card, encoding="utf-8")
        fit.classifier.save(folder / results.KERAS_FOLDER)
        finished = Results(
            run_id=active.info.run_id,
            metrics=metrics,
            per_epoch=tuple(name for name in metrics if name in fit.epochs[-1]),
            epochs=len(fit.epochs),
            version_tags=tracking.data_tags(messages, split) if job.register else None,
        )
        finished.write(folder)
        version = results.log(finished, folder, fit.classifier, fit.linear_weights)
        _announce(metrics, active.info.run_id, version)
    return metrics["test_f1"]


def _speed(fit: training.Fit) -> dict[str, float]:
    return {
        "fit_seconds": fit.seconds,
        "train_messages_per_second": fit.messages_per_second,
    }


def _announce(metrics: dict[str, float], run_id: str, version: str | None) -> None:
    shown = ("test_f1", "test_mcc", "test_ham_fpr", "test_recall_at_fpr_0_2pct")
    figures = ", ".join(f"{name} {metrics[name]:.4f}" for name in shown)
    registered = f", registered as models:/{tracking.REGISTERED_MODEL}/{version}" if version else ""
    logger.info("Run %s: %s%s", run_id, figures, registered)
