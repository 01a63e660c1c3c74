import pytest

from spam_mlflow.scorer.batches import batches


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], [0]),
        ([5], [1]),
        ([500], [1]),  # more characters than a batch has, but no text is divided
        ([1, 1, 1, 1], [3, 1]),
        ([40, 60, 1], [2, 1]),
        ([0, 500, 0], [1, 1, 1]),
    ],
)
def test_a_batch_is_bounded_in_texts_and_characters(
    lengths: list[int], expected: list[int]
) -> None:
    texts = ["x" * length for length in lengths]
    found = list(batches(texts, n_texts=3, n_characters=100))
    assert [len(batch) for batch in found] == expected
    assert [text for batch in found for text in batch] == texts
