"""Train, compare and serve spam classifiers for short texts with MLflow, Hydra and Keras."""

__version__ = "0.1.0"
