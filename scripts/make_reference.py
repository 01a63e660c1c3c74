"""Write the generated pages of the documentation: `python -m scripts.make_reference`."""

import argparse

from spam_mlflow.cli import COMMANDS
from spam_mlflow.config import reference_docs
from spam_mlflow.config.paths import PROJECT

FOLDER = PROJECT / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    commands = {name: (command.summary, command.example) for name, command in COMMANDS.items()}
    return {
        "configuration.md": reference_docs.configuration_page(),
        "commands.md": reference_docs.commands_page(commands, PROJECT / "MLproject"),
    }


def main() -> None:
    """Write every page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
