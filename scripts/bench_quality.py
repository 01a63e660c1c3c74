"""Compare models on the UCI collections: repeated, leak-free, stratified cross-validation.

    python -m scripts.bench_quality --data-dir FOLDER [--folds 5 --repeats 2]
        [--models ngram_linear cnn ...] [--few-folds 1] [--skip-transfer] [--skip-audit]

All models are tested on the same folds. Near-duplicates stay together; thresholds, calibration and
early stopping do not use the test fold. Classical models are treated like the default model: they
are fitted on train and validation part together, with thresholds from out-of-fold scores. Models
that need minutes per fold are tested on the first `--few-folds` only; the table gives the number of
folds. Results go to standard output as Markdown, and to MLflow. The label audit needs `pip install
cleanlab`, the row of fastText `pip install fasttext-wheel`.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import choices
from spam_mlflow.data.messages import validated
from spam_mlflow.data.near_duplicates import deduplicated
from spam_mlflow.data.sources import modern
from spam_mlflow.data.sources.uci import SMS_FILE, YOUTUBE, UciFiles, parse_sms, parse_youtube
from spam_mlflow.data.splitters import Split, assign_folds, cross_validation, without_copies
from spam_mlflow.evaluation import bootstrap, metrics
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier, Thresholds
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.tracking import run_logging, run_names, runs
from spam_mlflow.training import fit as training
from spam_mlflow.training import thresholds

FEW = ("tutorial_lstm",)  # models that need minutes per fold
NO_COPIES = [f"train.{kind}_fraction=0" for kind in ("obfuscated", "padded", "misspelled", "plain")]
MODERN = "with data.extra=[modern]"
SVM = "word+char SVM"
COLUMNS = ("accuracy", "f1", "mcc", "pr_auc", "ham_fpr", "recall_at_fpr_0_2pct", "ece")
SOURCES = ("f1__uci_sms", "f1__uci_youtube")
_NOWHERE = "http://127.0.0.1:9"  # all files are in the folder
VALIDATION = 0.1875  # of what is not in the test part: 15 % of all, as in conf/split/grouped.yaml


@dataclass(frozen=True)
class Scored:
    """The result of one model on one fold.

    Attributes:
        metrics: Metrics by name, `fit_seconds` and `messages_per_second` (scored) among them.
        predicted: Whether each test row is predicted as spam, shape (rows,), bool.
    """

    metrics: dict[str, float]
    predicted: np.ndarray


Trainer = Callable[[Split], Scored]


def load(data_dir: str) -> pd.DataFrame:
    """Return the distinct messages of both UCI collections.

    Args:
        data_dir: Folder with the UCI files.

    Returns:
        The messages with near-duplicates grouped, as `deduplicated` returns them, plus a column
        `video`: the file of a YouTube comment, "" for an SMS.
    """
    contents = UciFiles(data_dir, None, _NOWHERE, 1, 0).read()
    parts = [parse_sms(contents[SMS_FILE])]
    parts += [parse_youtube(contents[name]).assign(source=name) for name in YOUTUBE.members]
    frame = deduplicated(validated(pd.concat(parts, ignore_index=True), "uci").frame, jaccard=0.6)
    sms = frame["source"] == "uci_sms"
    source = frame["source"].where(sms, "uci_youtube")
    return frame.assign(video=frame["source"].where(~sms, ""), source=source)


def repeated(frame: pd.DataFrame, folds: int, repeats: int) -> list[Split]:
    """Return the splits of a repeated cross-validation; they are the same in every call.

    Args:
        frame: Messages, as `load` returns them.
        folds: Folds of each cross-validation.
        repeats: Number of cross-validations.
    """
    return [
        split
        for repeat in range(repeats)
        for split in cross_validation(frame, folds, VALIDATION, repeat)
    ]


def svm() -> Pipeline:
    """Return the classical baseline: LinearSVC on TF-IDF of word and character n-grams."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2
    )
    return make_pipeline(make_union(words, characters), LinearSVC())


class FastText(BaseEstimator, ClassifierMixin):  # type: ignore[misc]
    """FastText's supervised model with word pairs and character n-grams (Joulin et al. 2017)."""

    def fit(self, texts: Sequence[str], spam: np.ndarray) -> "FastText":
        """Train on texts and whether each is spam, shape (texts,), bool."""
        import fasttext

        self.classes_ = np.array([False, True])
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "train.txt")
            lines = (f"__label__{int(y)} {_line(x)}" for x, y in zip(texts, spam, strict=True))
            file.write_text("\n".join(lines), encoding="utf-8")
            settings = {"lr": 0.5, "epoch": 25, "wordNgrams": 2, "minn": 2, "maxn": 5, "dim": 50}
            settings |= {"bucket": 200_000, "thread": 2, "seed": 0, "verbose": 0}
            self.model_ = fasttext.train_supervised(str(file), **settings)
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probabilities of ham and spam, shape (texts, 2)."""
        # The package's own `predict` fails with NumPy 2.
        found = [
            {label: p for p, label in self.model_.f.predict(f"{_line(text)}\n", 2, 0.0, "strict")}
            for text in texts
        ]
        spam = np.array([of_text.get("__label__1", 0.0) for of_text in found])
        return np.column_stack([1 - spam, np.clip(spam, 0, 1)])


def _line(text: str) -> str:
    return " ".join(text.casefold().split())


CLASSICAL: dict[str, Callable[[], Pipeline]] = {
    "majority": lambda: make_pipeline(TfidfVectorizer(), DummyClassifier()),
    "multinomial NB": lambda: make_pipeline(
        TfidfVectorizer(use_idf=False), MultinomialNB(alpha=0.1)
    ),
    "word LR": lambda: make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30)),
    "word+char LR": lambda: make_pipeline(svm()[0], LogisticRegression(C=30, max_iter=300)),
    SVM: svm,
}
if importlib.util.find_spec("fasttext"):  # `pip install fasttext-wheel`
    CLASSICAL["fastText"] = lambda: make_pipeline(FastText())


def classical(make: Callable[[], Pipeline], own_threshold: bool, split: Split) -> Scored:
    """Fit and test a scikit-learn pipeline.

    Its scores are calibrated, and its thresholds chosen, on out-of-fold scores of four folds.

    Args:
        make: Returns a new pipeline.
        own_threshold: Label as the pipeline itself does, from margin 0 or probability 0.5.
        split: The fold.
    """
    rows = split.rows_without_test.reset_index(drop=True)
    fold, spam = assign_folds(rows, 4, seed=0), is_spam(rows["label"])
    start = time.perf_counter()
    final = make().fit(rows["text"], spam)
    seconds = time.perf_counter() - start
    out_of_fold = np.zeros(len(rows))
    for number in range(4):
        others, scored_rows = rows[fold != number], rows[fold == number]
        model = make().fit(others["text"], is_spam(others["label"]))
        out_of_fold[fold == number] = margins(model, scored_rows)
    platt = LogisticRegression(C=np.inf).fit(out_of_fold[:, None], spam)
    calibrated = platt.predict_proba(out_of_fold[:, None])[:, 1]
    settings = validate("main", compose("main", [])).train.threshold
    chosen = thresholds.choose(calibrated, spam, settings).value
    low = thresholds.at_fpr(calibrated, spam, training.LOW_FPR)
    if own_threshold:
        chosen = float(platt.predict_proba(np.zeros((1, 1)))[0, 1])
    test = split.part("test")
    start = time.perf_counter()
    scores = platt.predict_proba(margins(final, test)[:, None])[:, 1]
    return scored(test, scores, Thresholds(chosen, low), seconds, time.perf_counter() - start)


def margins(model: Pipeline, rows: pd.DataFrame) -> np.ndarray:
    """Return the margin or the log-odds of each row, shape (rows,), float64.

    Args:
        model: A fitted pipeline, which by itself labels rows as spam from 0 on.
        rows: Column `text`.
    """
    if isinstance(model[-1], LinearSVC):
        return np.asarray(model.decision_function(rows["text"]))
    probability = np.clip(model.predict_proba(rows["text"])[:, 1], 1e-9, 1 - 1e-9)
    return np.log(probability / (1 - probability))


def ours(overrides: Sequence[str], split: Split) -> Scored:
    """Fit and test one of the project's models.

    Args:
        overrides: Overrides of conf/main.yaml, such as "model=cnn".
        split: The fold.
    """
    return score(*fit(overrides, split), split.part("test"))


def extended(split: Split) -> Scored:
    """Fit and test the default model as it is trained by default on UCI: with today's messages.

    Args:
        split: The fold.
    """
    return ours([], with_modern(split))


def with_modern(split: Split) -> Split:
    """Return a split whose training also uses the bundled messages of today."""
    extra = without_copies(modern.training([modern.MODERN]), split.frame)
    return dataclasses.replace(split, extra=extra)


def score(classifier: Classifier, seconds: float, test: pd.DataFrame) -> Scored:
    """Test a classifier.

    Args:
        classifier: The fitted classifier.
        seconds: Wall time of its fit.
        test: Rows of the test part.
    """
    start = time.perf_counter()
    scores = classifier.spam_probability(list(test["text"]))
    elapsed = time.perf_counter() - start
    return scored(test, scores, classifier.metadata.thresholds, seconds, elapsed)


def fit(overrides: Sequence[str], split: Split) -> tuple[Classifier, float]:
    """Fit one of the project's models.

    Args:
        overrides: Overrides of conf/main.yaml, such as "model=cnn".
        split: The fold.

    Returns:
        The classifier, and the wall time of its fit in seconds.
    """
    settings = validate("main", compose("main", overrides))
    with contextlib.redirect_stdout(io.StringIO()):
        fitted = training.fit(settings.model, split, settings.train, 0, "bench", lambda *_: None)
    return fitted.classifier, fitted.seconds


def scored(
    test: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, seconds: float, elapsed: float
) -> Scored:
    """Return the result of a model.

    Args:
        test: Rows of the test part.
        scores: Their spam probabilities, shape (rows,).
        thresholds: Thresholds of the model.
        seconds: Wall time of the fit.
        elapsed: Wall time of scoring the test part, in seconds.
    """
    values = metrics.compute(test, scores, thresholds, "")
    named = {name.removeprefix("_"): value for name, value in values.items()}
    named |= {"fit_seconds": seconds, "messages_per_second": len(test) / elapsed}
    return Scored(named, scores >= thresholds.chosen)


def trainers(names: Sequence[str]) -> Iterator[tuple[str, Trainer]]:
    """Yield every model by name with the function that fits and tests it on a fold.

    Args:
        names: Models of conf/model, which come after the classical ones.
    """
    for name, make in CLASSICAL.items():
        yield name, partial(classical, make, True)
    yield f"{SVM}, our thresholds", partial(classical, svm, False)
    for name in names:
        yield name, partial(ours, [f"model={name}", *(NO_COPIES if name in FEW else [])])
        if name == "ngram_linear":
            yield f"{name}, {MODERN}", extended


def intervals(splits: Sequence[Split], a: list[Scored], b: list[Scored]) -> str:
    """Return the 95 % interval of the difference in F1 of two models, by a paired bootstrap.

    Args:
        splits: The folds.
        a: Results of the first model, on all folds or the first ones.
        b: Results of the second model, whose F1 is subtracted.
    """
    tests = pd.concat([split.part("test") for split, _ in zip(splits, a, strict=False)])
    ours, theirs = (np.concatenate([fold.predicted for fold in side[: len(a)]]) for side in (a, b))
    _, low, high = bootstrap.paired_difference(
        bootstrap.f1, tests["group"].to_numpy(), is_spam(tests["label"]), ours, theirs
    )
    return f"{low:+.4f} to {high:+.4f}"


def table(results: dict[str, list[Scored]], against: dict[str, str]) -> str:
    """Return the results as Markdown, with mean ± standard deviation over folds.

    Args:
        results: Results of each model on its folds, by the model's name.
        against: Interval of its difference to the SVM in F1, likewise.
    """
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
    """Return mean ± standard deviation as text, or the mean alone if there is one value.

    Args:
        values: A value for each fold, shape (folds,).
        digits: Decimal places.
    """
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def transfers(frame: pd.DataFrame) -> Iterator[tuple[str, Split]]:
    """Yield splits whose test part is a video or a source that is not trained on.

    Args:
        frame: Messages, as `load` returns them.

    Yields:
        Name and split: one for each video, and one for each source.
    """
    sms = frame["source"] == "uci_sms"
    targets = {
        f"comments on {v.partition('-')[2][:-4]}": frame["video"] == v
        for v in sorted(set(frame["video"]) - {""})
    }
    for name, test in {**targets, "SMS to YouTube": ~sms, "YouTube to SMS": sms}.items():
        near_duplicate = frame["group"].isin(frame.loc[test, "group"]) & ~test
        kept = frame[~near_duplicate].reset_index(drop=True)
        test_rows = test[~near_duplicate].to_numpy()
        part = pd.Series("train", index=kept.index)
        fold = assign_folds(kept[~test_rows], 5, seed=0)
        part[np.flatnonzero(~test_rows)[fold == 0]] = "validation"
        part[test_rows] = "test"
        yield name, Split(kept.assign(part=part), name=name, leaky=False, duplicates=0)


def transfer_table(frame: pd.DataFrame) -> str:
    """Return the metrics on videos and sources that were not trained on, as Markdown."""
    lines = ["| tested on (not trained on) | model | F1 | MCC | ham FPR | PR-AUC |"]
    lines.append("|---|---|---|---|---|---|")
    for name, split in transfers(frame):
        models: tuple[tuple[str, Trainer], ...] = (
            (SVM, partial(classical, svm, True)),
            ("ngram_linear", partial(ours, [])),
            (f"ngram_linear, {MODERN}", extended),
        )
        for model, train in models:
            found = train(split).metrics
            values = (found[key] for key in ("f1", "mcc", "ham_fpr", "pr_auc"))
            lines.append(f"| {name} | {model} | {' | '.join(f'{x:.3f}' for x in values)} |")
    return "\n".join(lines)


def audit(frame: pd.DataFrame, folder: Path) -> str:
    """Estimate the number of wrong labels by confident learning (Northcutt et al. 2021).

    Nothing is relabeled: the estimate only tells which accuracy can be reached.

    Args:
        frame: Messages, as `load` returns them.
        folder: Folder for `label_issues.csv`, the list of messages that are probably mislabeled.

    Returns:
        The estimate as a sentence.
    """
    from cleanlab.filter import find_label_issues

    probability = np.zeros(len(frame))
    for split in cross_validation(frame, 5, VALIDATION, seed=0):
        classifier, _ = fit([], split)
        rows = split.frame["part"].to_numpy() == "test"
        probability[rows] = classifier.spam_probability(list(split.part("test")["text"]))
    labels = is_spam(frame["label"]).astype(int)
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
    parser.add_argument("--models", nargs="*", default=choices("model"))
    parser.add_argument("--few-folds", type=int, default=1, help="folds for slow models")
    parser.add_argument("--skip-transfer", action="store_true")
    parser.add_argument("--skip-audit", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for label_issues.csv")
    arguments = parser.parse_args()
    keras_backend.load()
    frame = load(arguments.data_dir)
    splits = repeated(frame, arguments.folds, arguments.repeats)
    runs.connect()
    with runs.run():
        run_names.name_run("quality benchmark")
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
        run_logging.describe_run(text)
        mlflow.log_text(text, "quality.md")
        print(text)


if __name__ == "__main__":
    main()
