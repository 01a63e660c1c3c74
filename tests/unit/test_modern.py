import runpy
import sys
from dataclasses import replace

import pandas as pd
import pytest
from support.project import ROOT

from scripts import make_modern
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.sources import modern
from spam_mlflow.data.sources.modern import ModernSource
from spam_mlflow.data.splitters import GroupedSplitter, OverfitSplitter, without_copies
from spam_mlflow.tracking import lineage
from spam_mlflow.training.experiment import trained_split

SPLITTER = GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=0)


def test_the_file_is_what_the_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_modern", "--check"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / "make_modern.py"), run_name="__main__")
    assert stopped.value.code == 0


def test_both_classes_have_hundreds_of_templates_and_contrast_pairs() -> None:
    frame = ModernSource().load().frame
    assert frame.groupby("label")["group"].nunique().min() > 700
    held_out = modern.held_out()
    both = held_out.groupby("kind")["label"].nunique()
    kinds = {"delivery", "bank", "family", "vote", "operator", "government", "utility"}
    assert kinds <= set(both[both == 2].index)


def test_messages_of_a_template_hang_on_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = list(make_modern._templates())
    assert len({text.casefold() for _, _, text in templates}) == len(templates)
    ham = [template for template in templates if template[0] == "ham"]
    monkeypatch.setattr(make_modern, "_templates", lambda: iter([*ham[:2], *templates[-1:]]))
    few = make_modern.messages()
    frame = ModernSource().load().frame
    numbered = frame[frame["group"].isin(["modern_ham_001", "modern_ham_002"])]
    assert list(few.loc[few["label"] == "ham", "text"]) == list(numbered["text"])


def test_no_template_is_both_trained_on_and_held_out() -> None:
    trained, held_out = modern.training(["modern"]), modern.held_out()
    assert not set(trained["group"]) & set(held_out["group"])
    assert len(trained) + len(held_out) == len(ModernSource().load().frame)
    assert 0.15 < len(held_out) / len(trained) < 0.5
    assert modern.training([]).empty


def test_templates_stay_together_in_a_split_of_their_own() -> None:
    split = SPLITTER.split(ModernSource().load())
    assert split.frame.groupby("group")["part"].nunique().max() == 1


def test_additional_messages_go_along_without_texts_of_the_others() -> None:
    extra = modern.training(["modern"])
    copied = str(extra["text"][0]).upper()
    own = ModernSource().load().frame.iloc[-400:]
    frame = pd.concat([own.assign(source="own"), extra.iloc[:1].assign(text=copied)])
    messages = Messages(frame.reset_index(drop=True), "csv", extra=extra)
    kept = without_copies(messages.extra, messages.frame)
    assert extra["text"][0] not in set(kept["text"])
    assert 0 < len(kept) < len(extra)


def test_only_what_is_trained_on_additional_messages_says_so() -> None:
    messages = replace(ModernSource().load(), extra=modern.training(["modern"]))
    split = SPLITTER.split(messages)
    split = replace(split, extra=messages.extra)  # the messages here are the same, and left out
    solved, trained = (
        validate("main", compose("main", ["data=sample", f"model={name}"])).model
        for name in ("ngram_linear", "cnn")
    )
    told = [
        lineage.data_tags(messages, of_split).get("data.extra")
        for of_split in (
            *(trained_split(solved, split), trained_split(trained, split)),
            *(OverfitSplitter(20, 0).split(messages), None),
        )
    ]
    assert told == ["modern", None, None, None]
