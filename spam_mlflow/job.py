"""One training without a word to MLflow: from messages to a fitted model, figures and files."""

import cProfile
import io
import pstats
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow import evaluation, model_card, reports, training, wiring
from spam_mlflow.data import Messages
from spam_mlflow.evaluation import Report
from spam_mlflow.models import Architecture
from spam_mlflow.settings import RunSettings, TrainSettings
from spam_mlflow.split import Split, Splitter
from spam_mlflow.training import EpochListener, Fit

CARD_FILE = "model_card.md"
KERAS_FOLDER = "keras"
PROFILE_FILE = "profile.txt"
_PROFILE_LINES = 60


@dataclass(frozen=True)
class Job:
    """What is trained on what."""

    architecture: Architecture
    settings: TrainSettings
    run: RunSettings
    messages: Messages
    split: Split

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        preset = f"{self.run.preset}: " if self.run.preset else ""
        leaky = " (leaky split)" if self.split.leaky else ""
        return f"{preset}{self.architecture.name} on {self.messages.name}{leaky}"

    def fit(self, folder: Path, on_epoch: EpochListener, quiet: bool = False) -> Fit:
        """Fit the model; with `train.profile`, what took its time goes to profile.txt.

        quiet: print no line for each epoch.
        """
        profile = cProfile.Profile()
        if self.settings.profile:
            profile.enable()
        try:
            return training.fit(
                self.architecture,
                self.split,
                self.settings,
                self.run.seed,
                self.messages.digest,
                on_epoch,
                quiet,
            )
        finally:
            if self.settings.profile:
                profile.disable()
                _write_profile(profile, folder / PROFILE_FILE)

    def validation(self, fit: Fit) -> Report:
        """Return the figures on the validation part, from weights that never saw it."""
        part, thresholds = self.split.part("validation"), fit.classifier.metadata.thresholds
        return evaluation.report(part, fit.validation_scores, thresholds, "val")

    def test(self, fit: Fit) -> Report:
        """Return the figures on the test part."""
        part, thresholds = self.split.part("test"), fit.classifier.metadata.thresholds
        scores = fit.classifier.spam_probability(list(part["text"]))
        return evaluation.report(part, scores, thresholds, "test")

    def write(
        self, fit: Fit, test: Report, metrics: Mapping[str, float], title: str, folder: Path
    ) -> None:
        """Write everything that a run leaves behind as files into `folder`."""
        reports.write_split(self.split, folder)
        reports.write_figures(test, fit.epochs, title, folder)
        reports.write_errors(evaluation.misclassified(test), folder)
        reports.write_predictions(test, folder)
        card = model_card.write(
            fit.classifier.metadata, self.messages, self.split, metrics, self.settings.ham_fpr
        )
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        fit.classifier.save(folder / KERAS_FOLDER)


@dataclass(frozen=True)
class Plan:
    """What a configuration asks for, checked before any message is read."""

    run: RunSettings
    settings: TrainSettings
    architecture: Architecture
    splitter: Splitter

    def on(self, messages: Messages) -> Job:
        """Return the job on `messages`; raises UserError where they are too few to split."""
        split = self.splitter.split(messages)
        return Job(self.architecture, self.settings, self.run, messages, split)


def plan(cfg: DictConfig) -> Plan:
    """Return what `cfg` asks for; raises UserError naming each bad key."""
    return Plan(
        run=wiring.top_level(RunSettings, cfg),
        settings=wiring.settings(TrainSettings, cfg.train, "train."),
        architecture=wiring.build(cfg.model),
        splitter=wiring.build(cfg.split),
    )


def _write_profile(profile: cProfile.Profile, file: Path) -> None:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(_PROFILE_LINES)
    file.write_text(text.getvalue(), encoding="utf-8")
