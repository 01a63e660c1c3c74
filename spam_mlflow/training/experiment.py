"""One experiment without MLflow: from messages to a fitted model, metrics and files."""

import cProfile
import io
import logging
import pstats
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spam_mlflow import progress
from spam_mlflow.config.schema import DataSettings, TrainSettings
from spam_mlflow.data.messages import Messages, write_rejected
from spam_mlflow.data.splitters import Split
from spam_mlflow.drift.reference import Reference
from spam_mlflow.evaluation import artifacts, metrics, model_card, report
from spam_mlflow.evaluation.explorer import ModelScores
from spam_mlflow.evaluation.metrics import Report
from spam_mlflow.models import Architecture, SolvedNetwork
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.scorers import LinearScorer
from spam_mlflow.tracking import run_metrics
from spam_mlflow.tracking.run_folder import CARD_FILE, KERAS_FOLDER, PROFILE_FILE, REJECTED_FILE
from spam_mlflow.training import fit, memory
from spam_mlflow.training.fit import EpochListener, Fit

logger = logging.getLogger(__name__)

_PROFILE_LINES = 60  # functions that are listed


def load_messages(settings: DataSettings, folder: Path, one_class: bool = False) -> Messages:
    """Return the messages that the settings name; all commands that read messages call this.

    Args:
        settings: The data source, and the sources within it that are used.
        folder: Folder for `rejected.csv`, which is written where rows are rejected.
        one_class: Whether messages that are all ham or all spam are enough.

    Raises:
        UserError: Where the data cannot be read, or a class or source is missing.
    """
    with progress.step("Reading messages"):
        messages: Messages = settings.data.load()
        if settings.sources is not None:
            messages = messages.only(settings.sources)
    if len(messages.rejected):
        write_rejected(messages, folder / REJECTED_FILE, settings.safe_csv)
        logger.warning(
            "%s of %s rows were rejected; see %s in the run's artifacts",
            len(messages.rejected),
            len(messages.rejected) + len(messages.frame),
            REJECTED_FILE,
        )
    if not one_class:
        messages.require_both_classes()
    return messages


def split_messages(settings: DataSettings, messages: Messages) -> Split:
    """Return the messages as the settings split them, and show it: 300,000 take half a minute.

    Args:
        settings: How they are split.
        messages: The messages.

    Raises:
        UserError: Where they cannot be split so.
    """
    with progress.step(f"Splitting {len(messages.frame):,} messages"):
        split: Split = settings.split.split(messages)
    return split


def trained_split(architecture: Architecture, split: Split) -> Split:
    """Return a split as an architecture is trained on it: only solvers take additional messages.

    Args:
        architecture: What the model is.
        split: All messages.
    """
    return split if isinstance(architecture, SolvedNetwork) else split.without_extra()


@dataclass(frozen=True)
class Experiment:
    """A model, how it is fitted, and the messages that it is trained and tested on.

    Attributes:
        architecture: What the model is.
        settings: How it is fitted.
        seed: Seed of the initial weights, the augmentation and the order of the messages.
        messages: All messages.
        split: Their split into train, validation and test part.
        preset: Name of the experiment preset, None where none is used.
    """

    architecture: Architecture
    settings: TrainSettings
    seed: int
    messages: Messages
    split: Split
    preset: str | None = None

    @property
    def title(self) -> str:
        """The experiment in a few words: preset, model and data."""
        preset = f"{self.preset}: " if self.preset else ""
        leaky = " (leaky split)" if self.split.leaky else ""
        return f"{preset}{self.architecture.name} on {self.messages.name}{leaky}"

    def fit(self, folder: Path, on_epoch: EpochListener, quiet: bool = False) -> Fit:
        """Fit the model.

        Args:
            folder: Folder for `profile.txt`, which is written where `train.profile` is true.
            on_epoch: Called after each epoch.
            quiet: Print no line for each epoch.

        Raises:
            UserError: As `fit.fit` raises it.
        """
        profile = cProfile.Profile()
        if self.settings.profile:
            profile.enable()
        try:
            return fit.fit(
                self.architecture,
                self.split,
                self.settings,
                self.seed,
                self.messages.digest,
                on_epoch,
                quiet,
            )
        finally:
            if self.settings.profile:
                profile.disable()
                _write_profile(profile, folder / PROFILE_FILE)
            memory.release()

    def validation(self, fitted: Fit) -> Report:
        """Return the metrics on the validation part, computed from out-of-fold scores."""
        part, thresholds = self.split.part("validation"), fitted.classifier.metadata.thresholds
        return metrics.report(part, fitted.validation_scores, thresholds, "val")

    def test(self, fitted: Fit) -> Report:
        """Return the metrics on the test part."""
        part, thresholds = self.split.part("test"), fitted.classifier.metadata.thresholds
        with progress.step(f"Scoring the test part, {len(part):,} messages"):
            scores = fitted.classifier.spam_probability(list(part["text"]))
        return metrics.report(part, scores, thresholds, "test")

    def write(
        self,
        fitted: Fit,
        test: Report,
        values: Mapping[str, float],
        title: str,
        folder: Path,
        safe_csv: bool = False,
        model_uri: str | None = None,
    ) -> None:
        """Write the files of a run: split, plots, tables, model card and model.

        Args:
            fitted: The fitted model.
            test: The report of the test part.
            values: All metrics of the run by name.
            title: Title of every plot.
            folder: Folder for the files.
            safe_csv: As for `csv_cells.write`.
            model_uri: As for `model_card.write`.
        """
        with progress.step("Writing tables, plots and model"):
            artifacts.write_split(self.split, folder, safe_csv)
            artifacts.write_plots(test, fitted.epochs, title, folder)
            run_metrics.write(values, folder, safe_csv)
            artifacts.write_errors(metrics.misclassified(test), folder)
            artifacts.write_predictions(test, folder, safe_csv)
            card = model_card.write(
                fitted.classifier.metadata,
                self.messages,
                self.split,
                values,
                str(fitted.choice),
                model_uri,
            )
            (folder / CARD_FILE).write_text(card, encoding="utf-8")
            fitted.classifier.save(folder / KERAS_FOLDER)
            self._drift_reference(test).write(folder)
        with progress.step("Writing the report"):
            self._write_report(fitted, test, title, folder)

    def _write_report(self, fitted: Fit, test: Report, title: str, folder: Path) -> None:
        scorer = None
        if fitted.linear_weights is not None:
            scorer = LinearScorer.of(fitted.classifier, fitted.linear_weights)
        columns = ["part", "source", "label"]
        rows = self.split.frame.groupby(columns).size().reset_index(name="messages")
        counts = [tuple(map(str, row)) for row in rows.itertuples(index=False)]
        report.write_run(
            test.frame,
            ModelScores(title, test.scores, test.threshold),
            f"{self.messages.name}, split {self.split.name}",
            [("Data", (*columns, "messages"), counts)],
            folder,
            scorer,
            self.split.rows_without_test,
        )

    def _drift_reference(self, test: Report) -> Reference:
        """Return what later messages are compared with: the test part, as the model scores it."""
        trained = self.split.rows_without_test
        return Reference.of(
            list(trained["text"]),
            float(is_spam(trained["label"]).mean()),
            list(test.frame["text"]),
            test.scores.tolist(),
            list(test.frame["source"]),
        )


def _write_profile(profile: cProfile.Profile, file: Path) -> None:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(_PROFILE_LINES)
    file.write_text(text.getvalue(), encoding="utf-8")
