"""The model card: what a model is, what it was made from, and what it must not be trusted with.

Sections follow Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from collections.abc import Mapping

from spam_mlflow.classifier import Metadata
from spam_mlflow.data.messages import Messages
from spam_mlflow.reports import metrics_table
from spam_mlflow.split import Split

_TEMPLATE = """# Spam classifier `{architecture}`

Labels short English texts (SMS, comments) as ham or spam, with a probability.

## Use
Input: one text. Output: `label`, `spam_probability`, `ham_probability`. A text is labelled spam
from a probability of {threshold:.4f}, chosen on messages held out from training{rate}.

## Data
{data}

{counts}

## Figures on the test part
{warning}The test part was scored once, after every choice was made on other messages.

{metrics}

## Limits
English only; messages of the years 2004 to 2014 where the UCI collections were used. Labels are the
collections' own, errors included. A spammer who knows the model can get past it. Do not delete
messages on its word alone: keep what it calls spam where people can look.
"""


def write(
    metadata: Metadata,
    messages: Messages,
    split: Split,
    metrics: Mapping[str, float],
    ham_fpr: float | None,
) -> str:
    """Return the model card as Markdown.

    metrics: the run's figures; those that start with "test_" are shown.
    ham_fpr: share of held-out ham that the threshold was allowed to call spam.
    """
    sizes = split.frame.groupby(["source", "label", "part"]).size().unstack(fill_value=0)
    header = "| source | label | " + " | ".join(sizes.columns) + " |"
    rows = [
        f"| {source} | {label} | " + " | ".join(str(count) for count in counts) + " |"
        for (source, label), counts in zip(sizes.index, sizes.to_numpy(), strict=True)
    ]
    return _TEMPLATE.format(
        architecture=metadata.architecture,
        threshold=metadata.threshold,
        rate="" if ham_fpr is None else f" so that at most {ham_fpr:.1%} of their ham lies above",
        data=_describe_data(messages, split),
        counts="\n".join([header, "|---" * (len(sizes.columns) + 2) + "|", *rows]),
        warning=_warning(messages, split),
        metrics=metrics_table(metrics, "test"),
    )


def _describe_data(messages: Messages, split: Split) -> str:
    return (
        f"Source `{messages.name}`: {len(messages.frame):,} messages, {len(messages.rejected):,} "
        f"rejected, {split.duplicates:,} dropped as duplicates. Split `{split.name}`. "
        f"Data digest `{messages.digest}`, split digest `{split.digest}`."
    )


def _warning(messages: Messages, split: Split) -> str:
    if messages.name == "sample":
        return "**Synthetic sample: these figures say nothing about real messages.** "
    if split.leaky:
        return "**Leaky split: copies of test messages stand in the training part.** "
    return ""
