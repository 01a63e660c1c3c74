"""The one exception that is shown to users as a single line instead of a traceback."""

from spam_mlflow.scorer.errors import UserError

__all__ = ["UserError"]
