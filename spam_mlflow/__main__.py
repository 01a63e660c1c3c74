"""`python -m spam_mlflow`."""

import sys

from spam_mlflow.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
