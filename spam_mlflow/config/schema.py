"""Every setting as a type, checked before anything is read, trained or imported that is slow.

What each key means is explained where users meet it: in `conf/`, by `--help`, and in the reference.
Sections whose class is named by a `_target_` (data, split, model) are pydantic types, too, and
stand beside the code that they configure.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

CONFIG = ConfigDict(extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=True)
"""Of all settings: unknown keys are refused; 3 is taken for "3" where text is asked for."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(min_length=1)]
Alias = Literal["champion", "challenger"]


def _of_calendar(text: str) -> str:
    """Return a day of the calendar.

    Raises:
        ValueError: If it is none, such as 2026-02-30.
    """
    datetime.strptime(text, "%Y-%m-%d")
    return text


Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_of_calendar)]

# Sections of the configuration


@dataclass(frozen=True, config=CONFIG)
class ThresholdSettings:
    """How the threshold is chosen on out-of-fold scores: `threshold` in `conf/train`."""

    policy: Literal["auto", "target_fpr", "max_f1", "max_mcc", "min_cost", "fixed"]
    ham_fpr: Annotated[float, Field(ge=0, lt=1)]
    f1_tolerance: Fraction
    ham_cost: Positive
    value: Fraction


@dataclass(frozen=True, config=CONFIG)
class TrainSettings:
    """How a model is fitted: `conf/train`."""

    epochs: PositiveCount
    batch_size: PositiveCount | None
    learning_rate: Positive | None
    class_weight: Literal["none", "balanced"]
    early_stopping: Count
    best_weights: bool
    obfuscated_fraction: Fraction
    padded_fraction: Fraction
    misspelled_fraction: Fraction
    plain_fraction: Fraction
    max_augmented: Count
    threshold: ThresholdSettings
    deterministic: bool
    steps_per_epoch: Count
    profile: bool


@dataclass(frozen=True, config=CONFIG)
class StorageSettings:
    """How to reach an S3 store: `conf/storage`."""

    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None
    addressing_style: Literal["virtual", "path"]
    checksums: Literal["when_supported", "when_required"]
    attempts: Annotated[int, Field(ge=1, le=10)]
    connect_timeout: Positive  # seconds
    read_timeout: Positive  # seconds
    profile: Text | None = None

    @property
    def url(self) -> str | None:
        """The endpoint's address, with the region where it names one; None for AWS's own."""
        if self.endpoint_url is None:
            return None
        return self.endpoint_url.replace("{region}", str(self.region))


@dataclass(frozen=True, config=CONFIG)
class GateSettings:
    """Bounds of the gate's checks: `conf/gate`."""

    clean_commit: bool
    allow_fallback: bool
    allow_undigested: bool
    min_rows: PositiveCount
    spam_rate: tuple[Fraction, Fraction]
    floors: dict[str, float]
    ceilings: dict[str, float]
    tolerances: dict[Literal["f1", "ham_fpr"], Annotated[float, Field(ge=0)]]
    churn: Fraction
    feedback_churn: Count
    beats_naive_bayes_by: float
    slice_rows: PositiveCount
    slice_class_rows: PositiveCount
    slice_balanced_accuracy: Fraction
    minimum_failures: Fraction
    invariance_failures: Fraction
    direction_failures: Fraction
    modern_ham_fpr: Fraction
    modern_recall: Fraction
    modern_slice_errors: Fraction
    parity: Positive
    requests: PositiveCount
    latency_ratio: Positive
    start_ratio: Positive
    memory_mb: Positive
    artifact_mb: Positive


@dataclass(frozen=True, config=CONFIG)
class FeedbackSettings:
    """When feedback counts: `conf/feedback`."""

    per_day: PositiveCount
    per_case: PositiveCount
    confirmations: Annotated[float, Field(ge=1)]
    confidence: Annotated[float, Field(ge=0.5, le=1)]
    jaccard: Annotated[float, Field(gt=0, le=1)]
    blocked: tuple[str, ...]
    max_share: Fraction


Value = bool | int | float | str
"""Of a hyper-parameter; lists are written as text, such as "[2,5]"."""


@dataclass(frozen=True, config=CONFIG)
class SearchParameter:
    """One dimension of a search space.

    Attributes:
        name: A key of the configuration, such as "train.epochs".
        type: Of its values.
        low: Smallest value of an int or a float.
        high: Largest, included.
        step: Between values; None for any.
        log: Draw on a logarithmic scale.
        choices: Of a categorical.
        when: Values that earlier parameters must have; the parameter is left alone otherwise.
    """

    name: str
    type: Literal["int", "float", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: Mapping[str, Value] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where the bounds do not fit the type."""
        ranged = self.low is not None and self.high is not None and self.low <= self.high
        if self.type == "categorical" and not self.choices:
            raise ValueError(f"{self.name} needs choices")
        if self.type != "categorical" and not ranged:
            raise ValueError(f"{self.name} needs low <= high, not {self.low} and {self.high}")
        if self.log and (self.step is not None or not self.low):
            raise ValueError(f"{self.name} with log needs low > 0 and no step")


@dataclass(frozen=True, config=CONFIG)
class SearchSettings:
    """What a sweep tries, in the order it is drawn, and for which metric: `conf/search`."""

    objective: Annotated[str, Field(pattern="^val_")]
    parameters: tuple[SearchParameter, ...]


# Commands: what stands at the top of `conf/<command>.yaml`, and its sections


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class DataSettings:
    """Which messages a command works on and how they are split: `conf/base/data.yaml`.

    Attributes:
        data: A `spam_mlflow.data.sources.Source`.
        split: A `spam_mlflow.data.splitters.Splitter`.
    """

    data: Any
    split: Any
    data_dir: str | None
    output_dir: str | None
    safe_csv: bool
    seed: Seed
    sources: tuple[str, ...] | None


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class MainSettings(DataSettings):
    """See `conf/main.yaml`.

    Attributes:
        model: A `spam_mlflow.models.Architecture`.
    """

    model: Any
    train: TrainSettings
    storage: StorageSettings
    register: Literal[True, False, "always"]
    track: bool
    chosen_data: str
    chosen_model: str
    preset: str | None

    def __post_init__(self) -> None:
        """Raise ValueError for a registration of what is not logged."""
        if self.register and not self.track:
            shown = str(self.register).lower()
            raise ValueError(
                f"register={shown} needs track=true: only a logged model is registered"
            )


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class EvaluateSettings(DataSettings):
    """See `conf/evaluate.yaml`."""

    storage: StorageSettings
    model_uri: Text
    part: Literal["train", "validation", "test", "all", "unseen"]
    json: bool


@dataclass(frozen=True, config=CONFIG)
class SparkSettings:
    """How to reach Spark: `conf/spark`."""

    master: Text
    remote: Annotated[str, Field(pattern=r"^sc://")] | None
    config: tuple[Annotated[str, Field(pattern=r"^[\w.-]+=")], ...]


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class ScoreSettings:
    """See `conf/score.yaml`."""

    storage: StorageSettings
    model_uri: Text
    input: Text
    output: Text
    format: Literal["parquet", "csv", "jsonl"]
    safe_csv: bool
    text_column: Text
    id_column: Text | None
    columns: tuple[Text, ...]
    threshold: Fraction | None
    explain: bool
    header: bool
    encoding: Text
    separator: Text
    quoting: Literal["auto", "quoted", "none"]
    engine: Literal["local", "spark"]
    workers: PositiveCount | None
    spark: SparkSettings
    part_rows: PositiveCount
    json: bool


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class SweepSettings(DataSettings):
    """See `conf/sweep.yaml`.

    Attributes:
        model: A `spam_mlflow.models.Architecture`.
    """

    model: Any
    train: TrainSettings
    search: SearchSettings
    storage: StorageSettings
    study: Text | None
    study_db: str | None
    trials: PositiveCount
    jobs: PositiveCount
    timeout: Positive | None  # seconds
    lost_after: Annotated[int, Field(ge=4)]  # seconds
    prune: bool
    save_as: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class PromoteSettings(DataSettings):
    """See `conf/promote.yaml`."""

    gate: GateSettings
    storage: StorageSettings
    version: Annotated[str, Field(pattern=r"^(\d+|latest)$")]
    alias: Alias
    allow_no_champion: bool
    dry_run: bool
    override: Text | None
    json: bool


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class ServeSettings:
    """See `conf/serve.yaml`.

    Attributes:
        store: A `spam_mlflow.inference_store.store.StoreSettings`.
    """

    storage: StorageSettings
    store: Any
    model_uri: Text
    host: Text
    port: Annotated[int, Field(ge=0, lt=2**16)]
    reload_seconds: Positive


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class InferencesSettings:
    """See `conf/inferences.yaml`.

    Attributes:
        store: A `spam_mlflow.inference_store.store.StoreSettings`.
    """

    store: Any
    feedback: FeedbackSettings
    action: Literal["create", "list", "export", "purge", "forget", "review"]
    day: Day | None
    version: Text | None
    label: Literal["ham", "spam"] | None
    limit: PositiveCount
    output: Text | None
    format: Literal["csv", "jsonl"]
    safe_csv: bool
    id: Text | None
    text: str | None
    reviewer: Text | None


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class RetrainSettings(DataSettings):
    """See `conf/retrain.yaml`.

    Attributes:
        store: A `spam_mlflow.inference_store.store.StoreSettings`.
        model: A `spam_mlflow.models.Architecture`.
    """

    store: Any
    feedback: FeedbackSettings
    model: Any
    train: TrainSettings
    gate: GateSettings
    storage: StorageSettings
    dry_run: bool
    min_labels: PositiveCount


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class DriftSettings:
    """See `conf/drift.yaml`.

    Attributes:
        store: A `spam_mlflow.inference_store.store.StoreSettings`.
    """

    storage: StorageSettings
    store: Any
    model_uri: Text
    window: PositiveCount
    history: Annotated[int, Field(ge=1, le=3650)]
    output_dir: str | None

    def __post_init__(self) -> None:
        """Raise ValueError for a window that is longer than what is read."""
        if self.window > self.history:
            raise ValueError(f"window={self.window} must not be more than history={self.history}")


@dataclass(frozen=True, config=CONFIG)
class RollbackSettings:
    """See `conf/rollback.yaml`."""

    alias: Alias
    steps: PositiveCount
    reason: str


@dataclass(frozen=True, config=CONFIG)
class HistorySettings:
    """See `conf/history.yaml`."""

    alias: Alias
    json: bool


@dataclass(frozen=True, config=CONFIG)
class CompareSettings:
    """See `conf/compare.yaml`."""

    storage: StorageSettings
    runs: tuple[str, ...]
    experiment_name: str | None
    filter: str
    sort: str
    limit: PositiveCount
    columns: tuple[str, ...]
    log: bool
    output_dir: str | None
    json: bool


@dataclass(frozen=True, config=CONFIG)
class ResumeSettings:
    """See `conf/resume.yaml`."""

    storage: StorageSettings
    folder: Text


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class LocationSettings:
    """A bucket, a prefix in it, and how to reach it: `conf/base/location.yaml`."""

    storage: StorageSettings
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^[\w!.*'()-]+(/[\w!.*'()-]+)*/?$")]
    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None

    @property
    def store(self) -> StorageSettings:
        """The storage preset with `endpoint_url` and `region` in place of its own where given."""
        return dataclasses.replace(
            self.storage,
            endpoint_url=self.endpoint_url or self.storage.endpoint_url,
            region=self.region or self.storage.region,
        )


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class PublishSettings(LocationSettings):
    """See `conf/publish.yaml`."""

    model_uri: Text
    h5: bool


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class PullSettings(LocationSettings):
    """See `conf/pull.yaml`."""

    output: Text


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class BucketSettings(LocationSettings):
    """See `conf/bucket.yaml`."""

    name: Text | None
    create: bool


JOBS: Mapping[str, type[Any]] = {
    "main": MainSettings,
    "evaluate": EvaluateSettings,
    "score": ScoreSettings,
    "sweep": SweepSettings,
    "compare": CompareSettings,
    "promote": PromoteSettings,
    "rollback": RollbackSettings,
    "history": HistorySettings,
    "resume": ResumeSettings,
    "publish": PublishSettings,
    "pull": PullSettings,
    "bucket": BucketSettings,
    "serve": ServeSettings,
    "inferences": InferencesSettings,
    "retrain": RetrainSettings,
    "drift": DriftSettings,
}
"""The type of each command's settings."""

SECTIONS: Mapping[str, type[Any]] = {
    "train": TrainSettings,
    "storage": StorageSettings,
    "gate": GateSettings,
    "search": SearchSettings,
    "feedback": FeedbackSettings,
    "spark": SparkSettings,
}
"""The type of each section that has no `_target_`."""
