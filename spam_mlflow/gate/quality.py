"""Checks of a version's quality: metrics, champion, baseline, slices and behavior."""

import math
from collections.abc import Iterator

import numpy as np

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.data.sources import modern
from spam_mlflow.evaluation import bootstrap, checklist, metrics, slices
from spam_mlflow.gate.check import Check, Holdout, Scored, check
from spam_mlflow.scorer.labels import is_spam

_COMPARED = {"f1": (bootstrap.f1, 1), "ham_fpr": (bootstrap.ham_fpr, -1)}
"""Metrics that are compared with the champion's; 1 if higher is better, -1 if lower is."""


def metric_checks(scored: Scored, holdout: Holdout, settings: GateSettings) -> Iterator[Check]:
    """Check the metrics on the holdout against floors and ceilings.

    Args:
        scored: The version's scores.
        holdout: The messages that they belong to.
        settings: Floors and ceilings, by names of metrics without "test_".

    Yields:
        A result for each floor and ceiling. A metric that is not defined fails.
    """
    computed: dict[str, float] = {}
    if np.isfinite(scored.scores).all():
        computed = metrics.compute(holdout.frame, scored.scores, scored.thresholds, "x")
    values = {name.removeprefix("x_"): value for name, value in computed.items()}
    bounds = [(name, bound, True) for name, bound in settings.floors.items()]
    bounds += [(name, bound, False) for name, bound in settings.ceilings.items()]
    for name, bound, is_floor in bounds:
        value = values.get(name, math.nan)
        # Neither comparison holds for NaN, so that a metric that is not defined fails.
        passed = value >= bound if is_floor else value <= bound
        why = "on the holdout" if math.isfinite(value) else "the metric is missing or not finite"
        yield check(f"metric: {name}", passed, value, f"{'>=' if is_floor else '<='} {bound}", why)


def champion_checks(
    scored: Scored, champion: Scored | None, holdout: Holdout, settings: GateSettings
) -> Iterator[Check]:
    """Check that the version is not worse than the champion.

    Args:
        scored: The version's scores.
        champion: The champion's scores on the same messages; None if there is no champion yet.
        holdout: The messages that the scores belong to.
        settings: Tolerances, and the share of labels that may change.

    Yields:
        A result for each metric with a tolerance, and one for changed labels. The bound applies to
        the worse end of the difference's 95 % paired bootstrap interval over groups.
    """
    if champion is None:
        yield Check("champion", "-", "-", "not applicable", "there is no champion yet")
        return
    groups = holdout.frame["group"].to_numpy()
    for name, tolerance in settings.tolerances.items():
        metric, sign = _COMPARED[name]
        difference, low, high = bootstrap.paired_difference(
            metric, groups, holdout.spam, scored.predicted, champion.predicted
        )
        worst = low if sign > 0 else -high
        yield check(
            f"champion: {name} not worse",
            worst >= -tolerance,
            f"{difference:+.4f} ({low:+.4f} to {high:+.4f})",
            f">= -{tolerance}" if sign > 0 else f"<= {tolerance}",
            "difference to the champion's, 95 % paired bootstrap over groups",
        )
    changed = float(np.mean(scored.predicted != champion.predicted))
    yield check(
        "champion: churn",
        changed <= settings.churn,
        changed,
        f"<= {settings.churn}",
        "share of the holdout that gets another label than from the champion",
    )


def baseline_checks(scored: Scored, holdout: Holdout, settings: GateSettings) -> Iterator[Check]:
    """Check that the version's F1 is ahead of a simple baseline.

    Args:
        scored: The version's scores.
        holdout: The messages that they belong to. The baseline, naive Bayes on counts of words, is
            trained on the other parts of their split.
        settings: By how much the version must be ahead.

    Yields:
        The one result.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.metrics import f1_score
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    train = holdout.split.rows_without_test
    baseline = make_pipeline(CountVectorizer(), MultinomialNB()).fit(
        train["text"], is_spam(train["label"])
    )
    baseline_f1 = float(f1_score(holdout.spam, baseline.predict(holdout.texts)))
    f1 = float(f1_score(holdout.spam, scored.predicted))
    yield check(
        "baseline: naive Bayes",
        f1 - baseline_f1 >= settings.beats_naive_bayes_by,
        f1 - baseline_f1,
        f">= {settings.beats_naive_bayes_by}",
        f"F1 {f1:.4f} against {baseline_f1:.4f} of naive Bayes, trained on the other parts",
    )


def slice_checks(scored: Scored, holdout: Holdout, settings: GateSettings) -> Iterator[Check]:
    """Check the balanced accuracy on each slice of the holdout.

    Args:
        scored: The version's scores.
        holdout: The messages that they belong to.
        settings: The lowest balanced accuracy, and the sizes that a slice must have.

    Yields:
        A result for each slice; a slice that is too small is not applicable.
    """
    correct = scored.predicted == holdout.spam
    for name, rows in slices.masks(holdout.frame):
        of_class = [rows & (holdout.spam == kind) for kind in (True, False)]
        counts = [int(members.sum()) for members in of_class]
        size = f"{sum(counts)} messages, {counts[0]} of them spam"
        if sum(counts) < settings.slice_rows or min(counts) < settings.slice_class_rows:
            yield Check(f"slice: {name}", "-", "-", "not applicable", f"too few: {size}")
            continue
        balanced = float(np.mean([correct[members].mean() for members in of_class]))
        bound = settings.slice_balanced_accuracy
        yield check(
            f"slice: {name}",
            balanced >= bound,
            balanced,
            f">= {bound}",
            f"balanced accuracy on {size}",
        )


def behavior_checks(
    scored: Scored, score: checklist.Score, holdout: Holdout, settings: GateSettings
) -> Iterator[Check]:
    """Check how changes of a message change its label or score.

    Args:
        scored: The version's scores, whose threshold is used.
        score: Returns the version's spam probabilities of any texts, shape (texts,).
        holdout: The messages to change.
        settings: The highest fraction of failures of each kind of test.

    Yields:
        A result for each test of `checklist.failure_rates`.

    Source: Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList".
    """
    bounds = {
        "minimum": settings.minimum_failures,
        "invariance": settings.invariance_failures,
        "direction": settings.direction_failures,
    }
    threshold = scored.thresholds.chosen
    for name, share in checklist.failure_rates(score, threshold, holdout.texts):
        bound = bounds[name.partition(":")[0]]
        why = "fraction of messages that fail"
        yield check(f"behavior: {name}", share <= bound, share, f"<= {bound}", why)


def modern_checks(
    extra: str, scored: Scored, score: checklist.Score, settings: GateSettings
) -> Iterator[Check]:
    """Check the labels of held-out messages of today, where the version was trained for them.

    Args:
        extra: Names of the bundled sets that the version was trained on as well.
        scored: The version's thresholds.
        score: Scores texts as the version does.
        settings: Fractions of wrong labels that are allowed.

    Yields:
        A result for all ham, for all spam, and for each slice.
    """
    if modern.MODERN not in extra.split(","):
        why = "the version was trained without data.extra=[modern]"
        yield Check("modern: held-out templates", "-", "-", "not applicable", why)
        return
    bounds = {"ham": settings.modern_ham_fpr, "spam": 1 - settings.modern_recall}
    names = {"ham": "modern: ham FPR", "spam": "modern: recall"}
    for name, wrong in checklist.modern_error_rates(score, scored.thresholds.chosen):
        bound = bounds.get(name, settings.modern_slice_errors)
        recall = name == "spam"
        yield check(
            names.get(name, f"modern: {name}"),
            wrong <= bound,
            1 - wrong if recall else wrong,
            f">= {settings.modern_recall}" if recall else f"<= {bound}",
            "today's messages, of templates that no version is trained on",
        )
