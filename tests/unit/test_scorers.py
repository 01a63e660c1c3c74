"""The files that a logged model is scored with, and their checksums."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.model_folder import BEFORE

from spam_mlflow.errors import UserError
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import FORMAT_VERSION, METADATA_FILE
from spam_mlflow.scorer.normalization import NORMALIZER_VERSION


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
    with np.load(files / scorers.LINEAR_FILE) as weights:
        assert logits[2] == pytest.approx(float(weights["intercept"]), abs=0.5)
