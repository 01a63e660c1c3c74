"""`python -m spam_mlflow`."""

import sys

from spam_mlflow.cli import script

if __name__ == "__main__":
    sys.exit(script())
