import numpy as np

from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.vectorizers.sequence import SequenceVectorizer

ODD = ["", "   ", "\U0001f600", "\u05e9\u05dc\u05d5\u05dd", "a" * 100_000, "x " * 50_000]


def test_sequences_are_those_of_kerass_tokenizer() -> None:
    keras_backend.load()
    from keras.preprocessing.sequence import pad_sequences
    from keras.src.legacy.preprocessing.text import Tokenizer

    texts = SampleSource().load().frame["text"].tolist()
    tokenizer = Tokenizer(num_words=280)
    tokenizer.fit_on_texts(texts[::2])
    expected = pad_sequences(tokenizer.texts_to_sequences(texts + ODD), maxlen=280)
    ours = SequenceVectorizer(280, 280)
    ours.fit_transform(texts[::2])
    np.testing.assert_array_equal(ours.transform(texts + ODD), expected)
