"""Messages that are only trained on, added to a split that does not know of them."""

import logging

import numpy as np
import pandas as pd

from spam_mlflow.data.messages import Messages
from spam_mlflow.data.near_duplicates import deduplicated
from spam_mlflow.errors import UserError

logger = logging.getLogger(__name__)


def added(frame: pd.DataFrame, messages: Messages, jaccard: float) -> pd.DataFrame:
    """Add the messages of `messages.train_only` to the training part of a split.

    The parts of all other messages stay as they are, so that a holdout is the same with and
    without feedback. Left out are messages that are near-copies of one outside the training part,
    those that contradict the labels of their near-copies in it, and what is more than
    `messages.train_only_share` of the training part.

    Args:
        frame: The split of all other messages: the columns of `Split.frame`.
        messages: All messages.
        jaccard: Similarity from which two texts are near-copies.

    Returns:
        `frame` with more rows at its end.
    """
    extra = messages.frame[messages.is_train_only]
    if extra.empty:
        return frame
    known = frame[["text", "label", "source"]].assign(group=frame["group"].map("known {}".format))
    joint = deduplicated(pd.concat([known, extra], ignore_index=True), jaccard)
    joint["part"] = frame["part"].reindex(joint.index)  # known messages are distinct and first
    joint["own_group"] = frame["group"].reindex(joint.index)
    taken = _taken(joint, len(frame), messages.train_only_share)
    group = _group_numbers(joint, taken, int(frame["group"].max()) + 1)
    rows = taken[["text", "label", "source"]].assign(group=group, part="train")
    logger.info("%s of %s messages for training only are used", len(rows), len(extra))
    return pd.concat([frame, rows[frame.columns]], ignore_index=True)


def _taken(joint: pd.DataFrame, known: int, share: float) -> pd.DataFrame:
    """Return the rows after the first `known` ones that may be trained on."""
    parts = joint.iloc[:known].groupby("group")["part"].agg(set)
    labels = joint.iloc[:known].groupby("group")["label"].agg(set)
    extra = joint.iloc[known:]
    near_parts, near_labels = extra["group"].map(parts), extra["group"].map(labels)
    apart = near_parts.map(lambda found: not isinstance(found, set) or found == {"train"})
    agrees = np.array(
        [
            not isinstance(near, set) or near == {label}
            for near, label in zip(near_labels, extra["label"], strict=True)
        ],
        dtype=bool,
    )
    limit = int(share * (joint["part"].iloc[:known] == "train").sum())
    return extra[apart.to_numpy(dtype=bool) & agrees].head(limit)


def _group_numbers(joint: pd.DataFrame, taken: pd.DataFrame, first_new: int) -> pd.Series:
    """Return the group of each row: that of its near-copies in the split, else a new one."""
    own = joint.dropna(subset="own_group").groupby("group")["own_group"].first()
    new = pd.Series(pd.factorize(taken["group"])[0] + first_new, index=taken.index)
    return taken["group"].map(own).fillna(new).astype("int32")


def refuse(messages: Messages, split: str) -> None:
    """Raise UserError where there are such messages, for a split that cannot keep them apart."""
    if messages.train_only:
        raise UserError(
            f"split={split} cannot keep feedback out of the holdout; use split=grouped with it"
        )
