"""The model card: what a model is, what it was trained on, and what it must not be used for.

Sections follow Mitchell et al. 2019, "Model Cards for Model Reporting"; the header is that of model
cards on the hub of Hugging Face.
"""

import os
import re
from collections.abc import Mapping

from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation.artifacts import metrics_table
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer.classifier import Metadata
from spam_mlflow.scorer.vectorizers import familiarity

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORDS = frozenset(
    {"the", "you", "to", "and", "is", "of", "in", "for", "it", "that"}
    | {"on", "are", "this", "have", "my", "your", "i", "u"}
)
_MOSTLY = 0.6  # 87 % of UCI's messages hold one of these words, 9 % of Indonesian ones

_TEMPLATE = """---
{header}---

{summary}

# Spam classifier `{architecture}`

Labels short texts (SMS, comments) as ham or spam, with a probability.

Trained on: {languages}

## Use
Intended for finding spam among messages like those of its training data, to be put where people can
look. Not intended for other languages, long documents, or decisions about people.

```python
{code}
```

Input: one text. Output: `label`, `spam_probability`, `ham_probability`. A text is labeled spam
from a probability of {threshold:.4f}. How this threshold was chosen: {choice}.

## Training data
{data}

{counts}

## Metrics on the test part
{warning}The test part was scored once, after every choice was made on other messages; only
`f1_best` looks at its labels: it is the F1 of the best threshold in hindsight.

{metrics}

## Time and carbon
Training took {seconds:.1f} s on a machine with {cores} processor cores, without a GPU being
needed. Its emissions were not measured.

## Limits
Only for texts like those it was trained on, in their language and of their kinds.{age}
An answer of the served model says where most of a text is unknown to the model (`low_confidence`):
its score means little then. Labels are those of the data, errors included. A spammer who knows the
model can get past it. Do not delete messages because of its prediction alone: keep what it labels
as spam where people can look.
"""

_FROM_MLFLOW = """import mlflow

model = mlflow.pyfunc.load_model("{uri}")
model.predict(["Ok, see you at seven then"])"""

_FROM_FILES = """from pathlib import Path

from spam_mlflow.scorer.classifier import Classifier

model = Classifier.load(Path("keras"))  # the folder beside this card
model.spam_probability(["Ok, see you at seven then"])"""

_AGE = " UCI's\ncollections are messages of the years 2004 to 2014."
_UCI = frozenset({"uci_sms", "uci_youtube", "uci-spam-sms", "uci-youtube-spam"})
"""Names of UCI's collections as sources."""

_TASK = "text-classification"
_ENGLISH = ("uci", "sample", "tutorial", "modern")  # data whose language and license are known
_HUB_METRICS = {
    "f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "mcc": "matthews_correlation",
    "roc_auc": "roc_auc",
}
"""Names of the hub's metrics by our own."""


def write(
    metadata: Metadata,
    messages: Messages,
    split: Split,
    metrics: Mapping[str, float],
    choice: str,
    model_uri: str | None,
) -> str:
    """Return the model card as Markdown, with a YAML header.

    Args:
        metadata: The model's metadata.
        messages: The messages, of which train, validation and test part are made.
        split: Their split.
        metrics: Metrics of the run by name; those that start with "test_" are shown.
        choice: How the threshold was chosen, and what it lets pass.
        model_uri: Where MLflow has the model; None if it has not, and there are only its files.
    """
    sizes = split.frame.groupby(["source", "label", "part"]).size().unstack(fill_value=0)
    rows = [
        (source, label, *map(str, counts))
        for (source, label), counts in zip(sizes.index, sizes.to_numpy(), strict=True)
    ]
    in_short = summary(metrics, "test", metadata.threshold)
    return _TEMPLATE.format(
        header=_header(metadata, messages, split, metrics),
        summary=f"{in_short}; {_data_in_short(messages, split)}",
        languages=_languages(split),
        code=_FROM_MLFLOW.format(uri=model_uri) if model_uri else _FROM_FILES,
        age=_AGE if _UCI & set(split.rows_without_test["source"]) else "",
        seconds=metrics.get("fit_seconds", 0.0),
        cores=os.cpu_count() or 1,
        architecture=metadata.architecture,
        threshold=metadata.threshold,
        choice=choice,
        data=_describe_data(messages, split),
        counts=markdown(("source", "label", *sizes.columns), rows),
        warning=_warning(messages, split),
        metrics=metrics_table(metrics, "test"),
    )


def _header(
    metadata: Metadata, messages: Messages, split: Split, metrics: Mapping[str, float]
) -> str:
    """Return the YAML that the hub reads, with the metrics of the test part."""
    import yaml

    known = messages.name in _ENGLISH
    found = [
        {"type": kind, "name": name, "value": round(metrics[f"test_{name}"], 4)}
        for name, kind in _HUB_METRICS.items()
        if f"test_{name}" in metrics
    ]
    data = {"type": messages.name, "name": messages.name, "split": "test"}
    task = {"type": _TASK, "name": "Spam detection"}
    values = {
        **({"language": ["en"]} if known else {}),
        **({"license": "mit"} if known else {"license": "other", "license_name": "not-stated"}),
        "library_name": "keras",
        "pipeline_tag": _TASK,
        "tags": ["spam-detection", "sms", "mlflow", metadata.architecture],
        "metrics": list(dict.fromkeys(entry["type"] for entry in found)),
        "model-index": [
            {
                "name": f"{metadata.architecture} on {messages.name}, split {split.name}",
                "results": [{"task": task, "dataset": data, "metrics": found}],
            }
        ],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def summary(metrics: Mapping[str, float], prefix: str, threshold: float) -> str:
    """Return the metrics that matter most in one line.

    Args:
        metrics: Metrics by name.
        prefix: Part of the data, such as "test".
        threshold: Spam probability from which a text is labeled spam.
    """
    f1, recall, ham_fpr = (
        f"{metrics[name]:.4f}" if (name := f"{prefix}_{metric}") in metrics else "not defined"
        for metric in ("f1", "recall_at_fpr_0_2pct", "ham_fpr")
    )
    return (
        f"F1 {f1}, recall {recall} at 0.2 % ham FPR, ham FPR {ham_fpr}, threshold {threshold:.4f}"
    )


def _languages(split: Split) -> str:
    """Return in words what the messages that were trained on are written in."""
    rows = split.rows_without_test
    texts = rows["text"]
    words = [set(_WORD.findall(text.casefold())) for text in texts]
    letters = familiarity.shares("".join(texts))
    written = ", ".join(f"{s.capitalize()} {share:.1%}" for s, share in letters.items())
    english = sum(bool(of_text & _ENGLISH_WORDS) for of_text in words) / max(len(words), 1)
    sources = ", ".join(sorted(rows["source"].unique()))
    extra = f"; in addition, {len(split.extra):,} of `modern`" if len(split.extra) else ""
    return (
        f"{len(texts):,} messages of {sources}{extra}. Script of the letters: {written or 'none'}. "
        f"{english:.0%} of the messages hold one of the commonest English words, so that they are "
        f"{'mostly' if english > _MOSTLY else 'mostly not'} English."
    )


def _data_in_short(messages: Messages, split: Split) -> str:
    leaky = "leaky " if split.leaky else ""
    return f"{messages.name}, {len(messages.frame):,} messages, {leaky}split {split.name}"


def _describe_data(messages: Messages, split: Split) -> str:
    return (
        f"Source `{messages.name}`: {len(messages.frame):,} messages, {len(messages.rejected):,} "
        f"rejected, {split.duplicates:,} dropped as duplicates. Split `{split.name}`. "
        f"Data digest `{messages.digest}`, split digest `{split.digest}`."
    )


def _warning(messages: Messages, split: Split) -> str:
    if messages.name == "sample":
        return "**Synthetic sample: these metrics say nothing about real messages.** "
    if split.leaky:
        return "**Leaky split: copies of test messages are in the training part.** "
    return ""
