"""Compare models on the UCI collections: repeated, leak-free, stratified cross-validation.

    python -m scripts.bench_quality --data-dir FOLDER [--folds 5 --repeats 2]
        [--models ngram_linear cnn ...] [--few-folds 1] [--skip-transfer] [--skip-audit]

Every model meets the same folds. Near-copies of a message stay together; thresholds, calibration
and stopping never see the scored fold. Classical models are treated like the default: fitted on
training and validation part together, with thresholds from cross-fitted scores. Models that need
minutes per fold run on the first `--few-folds` only, which the table says. Results go to standard
output as Markdown and to MLflow. The label audit needs `pip install cleanlab`.
"""

import argparse
import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

from spam_mlflow import config, evaluation, keras_backend, significance, tracking, training, wiring
from spam_mlflow.classifier import Classifier, Thresholds
from spam_mlflow.data.messages import validated
from spam_mlflow.data.uci import SMS_FILE, YOUTUBE, UciFiles, parse_sms, parse_youtube
from spam_mlflow.settings import TrainSettings
from spam_mlflow.split import Split, cross_validation, deal_groups, deduplicated

FEW = ("seed_lstm",)  # minutes per fold
SVM = "word+char SVM"
COLUMNS = ("accuracy", "f1", "mcc", "pr_auc", "ham_fpr", "recall_at_fpr_0_2pct", "ece")
SOURCES = ("f1__uci_sms", "f1__uci_youtube")
VALIDATION = 0.1875  # of what is not scored: 15 % of all, as in conf/split/grouped.yaml


@dataclass(frozen=True)
class Scored:
    """One model on one fold: metrics, and the label that each scored row got, shape (rows,)."""

    metrics: dict[str, float]
    called: np.ndarray


Trainer = Callable[[Split], Scored]


def load(data_dir: str) -> pd.DataFrame:
    """Return the distinct messages, with near-copies grouped and a column `video`."""
    contents = UciFiles(data_dir, None, "", 1, 0).read()
    parts = [parse_sms(contents[SMS_FILE])]
    parts += [parse_youtube(contents[name]).assign(source=name) for name in YOUTUBE.members]
    frame = deduplicated(validated(pd.concat(parts, ignore_index=True), "uci").frame, jaccard=0.6)
    sms = frame["source"] == "uci_sms"
    source = frame["source"].where(sms, "uci_youtube")
    return frame.assign(video=frame["source"].where(~sms, ""), source=source)


def repeated(frame: pd.DataFrame, folds: int, repeats: int) -> list[Split]:
    """Return the splits of repeated cross-validation: the same ones every time."""
    return [
        split
        for repeat in range(repeats)
        for split in cross_validation(frame, folds, VALIDATION, repeat)
    ]


def svm() -> Pipeline:
    """Return the baseline to beat: word (1, 2) and character (2, 5) TF-IDF, LinearSVC."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2
    )
    return make_pipeline(make_union(words, characters), LinearSVC())


CLASSICAL: dict[str, Callable[[], Pipeline]] = {
    "majority": lambda: make_pipeline(TfidfVectorizer(), DummyClassifier()),
    "multinomial NB": lambda: make_pipeline(
        TfidfVectorizer(use_idf=False), MultinomialNB(alpha=0.1)
    ),
    "word LR": lambda: make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30)),
    SVM: svm,
}


def classical(make: Callable[[], Pipeline], own_threshold: bool, split: Split) -> Scored:
    """Score a scikit-learn pipeline: calibration and thresholds from cross-fitted scores.

    own_threshold: label as the pipeline does by itself, margin 0 or probability 0.5.
    """
    learnt = split.frame[split.frame["part"] != "test"].reset_index(drop=True)
    fold, spam = deal_groups(learnt, 4, seed=0), training.spam(learnt)
    start = time.perf_counter()
    final = make().fit(learnt["text"], spam)
    seconds = time.perf_counter() - start
    held_out = np.zeros(len(learnt))
    for number in range(4):
        rest, out = learnt[fold != number], learnt[fold == number]
        held_out[fold == number] = margins(make().fit(rest["text"], training.spam(rest)), out)
    platt = LogisticRegression(C=np.inf).fit(held_out[:, None], spam)
    calibrated = platt.predict_proba(held_out[:, None])[:, 1]
    rates = (config.compose("main", []).train.ham_fpr, training.LOW_FPR)
    chosen, low = (training.threshold_at_fpr(calibrated, spam, rate) for rate in rates)
    if own_threshold:
        chosen = float(platt.predict_proba(np.zeros((1, 1)))[0, 1])
    test = split.part("test")
    start = time.perf_counter()
    scores = platt.predict_proba(margins(final, test)[:, None])[:, 1]
    return scored(test, scores, Thresholds(chosen, low), seconds, time.perf_counter() - start)


def margins(model: Pipeline, rows: pd.DataFrame) -> np.ndarray:
    """Return the log-odds or the margin of each row, shape (rows,); 0 is the model's own bound."""
    if isinstance(model[-1], LinearSVC):
        return np.asarray(model.decision_function(rows["text"]))
    probability = np.clip(model.predict_proba(rows["text"])[:, 1], 1e-9, 1 - 1e-9)
    return np.log(probability / (1 - probability))


def ours(overrides: Sequence[str], split: Split) -> Scored:
    """Train and score the model that `overrides` of conf/main.yaml name."""
    return score(*fit(overrides, split), split.part("test"))


def score(classifier: Classifier, seconds: float, test: pd.DataFrame) -> Scored:
    """Score the test part with a classifier whose training took so many seconds."""
    start = time.perf_counter()
    scores = classifier.spam_probability(list(test["text"]))
    elapsed = time.perf_counter() - start
    return scored(test, scores, classifier.metadata.thresholds, seconds, elapsed)


def fit(overrides: Sequence[str], split: Split) -> tuple[Classifier, float]:
    """Return the classifier that `overrides` name, and the seconds its training took."""
    cfg = config.compose("main", overrides)
    settings = wiring.settings(TrainSettings, cfg.train)
    with contextlib.redirect_stdout(io.StringIO()):
        done = training.fit(wiring.build(cfg.model), split, settings, 0, "bench", lambda *_: None)
    return done.classifier, done.seconds


def scored(
    test: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, seconds: float, elapsed: float
) -> Scored:
    """Return the metrics and labels of spam probabilities `scores` of the test part."""
    figures = evaluation.metrics(test, scores, thresholds, "")
    named = {name.removeprefix("_"): value for name, value in figures.items()}
    named |= {"fit_seconds": seconds, "messages_per_second": len(test) / elapsed}
    return Scored(named, scores >= thresholds.chosen)


def trainers(names: Sequence[str]) -> Iterator[tuple[str, Trainer]]:
    """Yield every classical model, then those of conf/model."""
    for name, make in CLASSICAL.items():
        yield name, partial(classical, make, True)
    yield f"{SVM}, our thresholds", partial(classical, svm, False)
    for name in names:
        plain = ["train.disguised=0", "train.padded=0"] if name in FEW else []
        yield name, partial(ours, [f"model={name}", *plain])


def intervals(splits: Sequence[Split], a: list[Scored], b: list[Scored]) -> str:
    """Return the paired bootstrap interval (95 %) of the F1 of `a` minus that of `b`."""
    tests = pd.concat([split.part("test") for split, _ in zip(splits, a, strict=False)])
    ours, theirs = (np.concatenate([fold.called for fold in side[: len(a)]]) for side in (a, b))
    _, low, high = significance.paired_difference(
        significance.f1, tests["group"].to_numpy(), training.spam(tests).astype(bool), ours, theirs
    )
    return f"{low:+.4f} to {high:+.4f}"


def table(results: dict[str, list[Scored]], against: dict[str, str]) -> str:
    """Return mean ± sd over folds as Markdown."""
    head = [*COLUMNS, *SOURCES, "fit_seconds", "messages_per_second"]
    lines = [f"| model | folds | {' | '.join(head)} | F1 minus SVM's, 95 % |"]
    lines.append("|---" * (len(head) + 3) + "|")
    for name, folds in results.items():
        cells = []
        for column in head:
            values = np.array([fold.metrics.get(column, np.nan) for fold in folds])
            if column == "messages_per_second":
                cells.append(f"{values.mean():,.0f}")
            else:
                digits = 2 if column == "fit_seconds" else 4 if column == "ham_fpr" else 3
                cells.append(spread(values, digits))
        lines.append(f"| {name} | {len(folds)} | {' | '.join(cells)} | {against.get(name, '')} |")
    return "\n".join(lines)


def spread(values: np.ndarray, digits: int) -> str:
    """Return mean ± standard deviation over folds, the mean alone of one fold."""
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def transfers(frame: pd.DataFrame) -> Iterator[tuple[str, Split]]:
    """Yield one split for each video, and from each source to the other."""
    sms = frame["source"] == "uci_sms"
    targets = {
        f"comments on {v.partition('-')[2][:-4]}": frame["video"] == v
        for v in sorted(set(frame["video"]) - {""})
    }
    for name, test in {**targets, "SMS to YouTube": ~sms, "YouTube to SMS": sms}.items():
        crossing = frame["group"].isin(frame.loc[test, "group"]) & ~test
        kept = frame[~crossing].reset_index(drop=True)
        scored_rows = test[~crossing].to_numpy()
        part = pd.Series("train", index=kept.index)
        fold = deal_groups(kept[~scored_rows], 5, seed=0)
        part[np.flatnonzero(~scored_rows)[fold == 0]] = "validation"
        part[scored_rows] = "test"
        yield name, Split(kept.assign(part=part), name=name, leaky=False, duplicates=0)


def transfer_table(frame: pd.DataFrame) -> str:
    """Return F1, ham FPR and PR-AUC on a video or source that was not learnt from, as Markdown."""
    lines = ["| scored on what was not learnt from | model | F1 | MCC | ham FPR | PR-AUC |"]
    lines.append("|---|---|---|---|---|---|")
    for name, split in transfers(frame):
        for model, train in ((SVM, partial(classical, svm, True)), ("default", partial(ours, []))):
            found = train(split).metrics
            figures = (found[key] for key in ("f1", "mcc", "ham_fpr", "pr_auc"))
            lines.append(f"| {name} | {model} | {' | '.join(f'{x:.3f}' for x in figures)} |")
    return "\n".join(lines)


def audit(frame: pd.DataFrame, folder: Path) -> str:
    """Estimate with confident learning how many labels are wrong; list them in a CSV.

    Northcutt et al. 2021. Nothing is relabelled: the list only says where the ceiling is.
    """
    from cleanlab.filter import find_label_issues

    probability = np.zeros(len(frame))
    for split in cross_validation(frame, 5, VALIDATION, seed=0):
        classifier, _ = fit([], split)
        rows = split.frame["part"].to_numpy() == "test"
        probability[rows] = classifier.spam_probability(list(split.part("test")["text"]))
    labels = training.spam(frame).astype(int)
    both = np.column_stack([1 - probability, probability])
    issues = find_label_issues(labels, both, return_indices_ranked_by="self_confidence")
    listed = frame.loc[issues, ["source", "label", "text"]].assign(
        spam_probability=probability[issues]
    )
    listed.to_csv(folder / "label_issues.csv", index=False)
    counts = listed.groupby(["source", "label"]).size().to_dict()
    return f"{len(issues)} of {len(frame)} labels are likely wrong: {counts}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--models", nargs="*", default=config.choices("model"))
    parser.add_argument("--few-folds", type=int, default=1, help="folds for models of minutes")
    parser.add_argument("--skip-transfer", action="store_true")
    parser.add_argument("--skip-audit", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for label_issues.csv")
    arguments = parser.parse_args()
    keras_backend.load()
    frame = load(arguments.data_dir)
    splits = repeated(frame, arguments.folds, arguments.repeats)
    tracking.connect()
    with tracking.run():
        tracking.name_run("quality benchmark")
        results: dict[str, list[Scored]] = {}
        for name, train in trainers(arguments.models):
            used = splits[: arguments.few_folds] if name in FEW else splits
            results[name] = [train(split) for split in used]
            against = {
                name: intervals(splits, found, results[SVM])
                for name, found in results.items()
                if SVM in results and name != SVM
            }
            print(table({name: results[name]}, against).splitlines()[-1], flush=True)
            key = re.sub(r"\W+", "_", name)  # MLflow allows no commas in names
            metrics = pd.DataFrame([fold.metrics for fold in results[name]]).mean()
            mlflow.log_metrics({f"{c}__{key}": float(metrics[c]) for c in COLUMNS if c in metrics})
        report = [
            f"{len(frame)} messages, {len(splits)} folds, mean ± sd\n",
            table(results, against),
        ]
        if not arguments.skip_transfer:
            report.append(transfer_table(frame))
        if not arguments.skip_audit:
            report.append(audit(frame, arguments.output))
        text = "\n\n".join(report)
        tracking.describe_run(text)
        mlflow.log_text(text, "quality.md")
        print(text)


if __name__ == "__main__":
    main()
