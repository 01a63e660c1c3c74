"""Typed settings, checked before anything is read or trained."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainSettings:
    """How a model is fitted: each key is explained in `conf/train/default.yaml`."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    class_weight: Literal["none", "balanced"]
    early_stopping: Annotated[int, Field(ge=0)]
    best_weights: bool
    disguised: Annotated[float, Field(ge=0, le=1)]
    padded: Annotated[float, Field(ge=0, le=1)]
    copies_at_most: Annotated[int, Field(ge=0)]
    ham_fpr: Share | None
    deterministic: bool
    steps_per_epoch: Annotated[int, Field(ge=0)]
    profile: bool


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunSettings:
    """What stands at the top of `conf/main.yaml` and is not a group."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    register: bool
    track: bool
    preset: str | None
    sources: tuple[str, ...] | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SweepSettings:
    """What stands at the top of `conf/sweep.yaml` and is not a group."""

    study: Annotated[str, Field(min_length=1)] | None
    study_db: str | None
    trials: Annotated[int, Field(ge=1)]
    jobs: Annotated[int, Field(ge=1)]
    timeout: Annotated[float, Field(gt=0)] | None
    prune: bool
    save_as: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sources: tuple[str, ...] | None


Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromoteSettings:
    """What stands at the top of `conf/promote.yaml` and says how to promote."""

    to: Alias
    first: bool
    dry_run: bool
    override: Annotated[str, Field(min_length=1)] | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RollbackSettings:
    """See `conf/rollback.yaml`."""

    to: Alias
    steps: Annotated[int, Field(ge=1)]
    reason: str


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CompareSettings:
    """See `conf/compare.yaml`."""

    runs: tuple[str, ...]
    experiment_name: str | None
    filter: str
    sort: str
    limit: Annotated[int, Field(ge=1)]
    columns: tuple[str, ...]
    log: bool


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HistorySettings:
    """See `conf/history.yaml`."""

    to: Alias


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StorageSettings:
    """How to reach an S3 store: each key is explained in `conf/storage/aws.yaml`."""

    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None
    addressing_style: Literal["virtual", "path"]
    checksums: Literal["when_supported", "when_required"]
    attempts: Annotated[int, Field(ge=1, le=10)]
    connect_timeout: Annotated[float, Field(gt=0)]
    read_timeout: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PlaceSettings:
    """A bucket and a prefix in it; names as S3 allows them."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^[\w!.*'()-]+(/[\w!.*'()-]+)*/?$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PublishSettings(PlaceSettings):
    """See `conf/publish.yaml`."""

    model_uri: str
    h5: bool


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BucketSettings(PlaceSettings):
    """See `conf/bucket.yaml`."""

    name: Annotated[str, Field(min_length=1)]
    create: bool
