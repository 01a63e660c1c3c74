"""The files that a logged model is scored with, and their checksums."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.model_folder import BEFORE

from spam_mlflow.data.slow_texts import SLOW_TEXTS
from spam_mlflow.errors import UserError
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import FORMAT_VERSION, METADATA_FILE, TOKENIZER_FILE
from spam_mlflow.scorer.normalization import NORMALIZER_VERSION
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a linear model."""
    source = BEFORE / "model" / "artifacts" / "classifier"
    folder = Path(shutil.copytree(source, tmp_path / "classifier"))
    metadata = json.loads((folder / METADATA_FILE).read_text())
    metadata.pop("normaliser_version")
    metadata |= {"format_version": FORMAT_VERSION, "normalizer_version": NORMALIZER_VERSION}
    (folder / METADATA_FILE).write_text(json.dumps(metadata))
    names = json.loads((folder / scorers.CHECKSUMS_FILE).read_text())
    checksums = {name: scorers.sha256(folder / name) for name in names}
    (folder / scorers.CHECKSUMS_FILE).write_text(json.dumps(checksums))
    return folder


def test_every_file_is_verified_to_the_byte(files: Path) -> None:
    scorers.verify(files)
    names = [file.name for file in files.iterdir() if file.name != scorers.CHECKSUMS_FILE]
    assert len(names) == 3
    for name in names:
        content = (files / name).read_bytes()
        (files / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=f"^{name} in .* has changed since"):
            scorers.load(files)
        (files / name).unlink()
        with pytest.raises(UserError, match="is incomplete or damaged"):
            scorers.load(files)
        (files / name).write_bytes(content)


def test_a_score_is_the_sigmoid_of_all_that_explains_it(files: Path) -> None:
    scorer = scorers.load(files)
    texts = ["Ok, see you at seven then", "URGENT! You have won a prize", ""]
    logits = [sum(part["contribution"] for part in e) for e in scorer.explanations(texts)]
    np.testing.assert_allclose(
        scorer.spam_probability(texts), 1 / (1 + np.exp(-np.array(logits))), rtol=0, atol=1e-8
    )
    for text, logit in zip(texts, logits, strict=True):
        (found,) = scorer.word_contributions([text])
        assert found.words.sum() + sum(found.others.values()) == pytest.approx(logit, abs=1e-5)
    with np.load(files / scorers.LINEAR_FILE) as weights:
        assert logits[2] == pytest.approx(float(weights["intercept"]), abs=0.5)


def test_texts_explained_at_once_are_explained_as_one_by_one(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorers.load(files)
    offers = [f"Text WIN to 8008{n} for a fr.e.e prize, \uff23all now" for n in range(10)]
    texts = [
        "",
        "See you at 7pm, Mum",
        *offers,
        *SLOW_TEXTS.values(),
        "\0",
        " ",
        "unpa\u200bid t0ll",
    ]
    alone = [scorer.word_contributions([text])[0] for text in texts]
    for at_once in (scorers._AT_ONCE, (4, 1000)):
        monkeypatch.setattr(scorers, "_AT_ONCE", at_once)
        together = scorer.word_contributions(texts)
        assert [found.spans for found in together] == [found.spans for found in alone]
        for one, same in zip(alone, together, strict=True):
            np.testing.assert_allclose(same.words, one.words, rtol=0, atol=1e-9)
            assert same.others == pytest.approx(one.others, abs=1e-9)
    assert scorer.word_contributions([]) == []
    assert scorer.explanations([]) == []


def contributions(files: Path, text: str, *features: str) -> dict[str, float]:
    """Return what the words of a text contribute where only some features count, each as much."""
    vectorizer = NgramVectorizer.from_dict(json.loads((files / TOKENIZER_FILE).read_text()))
    counts = np.isin(vectorizer.feature_names, features)
    assert counts.sum() == len(features)
    np.savez(files / scorers.LINEAR_FILE, coefficients=1.0 * counts, intercept=np.zeros(()))
    checksums = json.loads((files / scorers.CHECKSUMS_FILE).read_text())
    checksums[scorers.LINEAR_FILE] = scorers.sha256(files / scorers.LINEAR_FILE)
    (files / scorers.CHECKSUMS_FILE).write_text(json.dumps(checksums))
    (found,) = scorers.load(files).word_contributions([text])
    words = [text[start:end] for start, end in found.spans]
    return {w: moved for w, moved in zip(words, found.words.tolist(), strict=True) if moved}


def test_a_feature_contributes_where_it_is(files: Path) -> None:
    text = "Your parcel will be here, your loan account too"
    (one, two) = contributions(files, text, "word:parcel", "word:loan").items()
    assert (one[0], two[0]) == ("parcel", "loan")
    pair = contributions(files, text, "word:your parcel")
    assert pair == {"Your": pytest.approx(pair["parcel"]), "parcel": pair["parcel"]}
    assert set(contributions(files, text, "char:cc")) == {"account"}
    # "unpai" and "d" are two words whose letters run on in the skeleton.
    split = contributions(files, "the unpai d toll", "skeleton:aid")
    assert split["unpai"] == pytest.approx(2 * split["d"])
    assert contributions(files, text, "style:characters") == {}


def test_disguised_words_contribute_as_they_are_written(files: Path) -> None:
    for text, words in (
        ("an un\u200bpaid toll", ["un\u200bpaid"]),
        ("an u.n.p.a.i.d toll", ["u.n.p.a.i.d"]),
        ("4n unp41d t0ll &amp; m0re", ["unp41d"]),
        ("an \u0443 un\u0440aid b", ["un\u0440aid"]),
        ("is u n p a i d by me", ["u", "n", "p", "a", "i", "d"]),
        ("x " * 12_000 + "unpaid", ["unpaid"]),
    ):
        assert list(contributions(files, text, "word:unpaid")) == words, text
