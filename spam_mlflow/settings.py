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


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunSettings:
    """What stands at the top of `conf/main.yaml` and is not a group."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    register: bool


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
class HistorySettings:
    """See `conf/history.yaml`."""

    to: Alias
