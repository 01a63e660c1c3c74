"""Where configurations are, and where files go by default."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
PROJECT = PACKAGE.parent
INSTALLED = (PACKAGE / "conf").is_dir()
"""Whether this is an installed package, which holds `conf/`, and not a checkout."""

PROGRAM = "spam-mlflow" if INSTALLED else "python -m spam_mlflow"
"""How a user calls this project, as messages say it."""

CONF = (PACKAGE if INSTALLED else PROJECT) / "conf"


def working_root() -> Path:
    """Return where a tracking store, sweeps and presets go by default.

    It is the project's root in a checkout, and the working directory for an installed package.
    """
    return Path.cwd() if INSTALLED else PROJECT


def conf_folders() -> list[Path]:
    """Return the folders that configurations are looked up in, the user's own first.

    An installed package also reads `conf/` in the working directory, where a sweep's presets go.
    """
    own = working_root() / "conf"
    return [own, CONF] if own != CONF and own.is_dir() else [CONF]


def choices(group: str) -> list[str]:
    """Return the valid names of one config group, such as "model"."""
    files = (file for folder in conf_folders() for file in (folder / group).glob("[a-z]*.yaml"))
    return sorted({file.stem for file in files})
