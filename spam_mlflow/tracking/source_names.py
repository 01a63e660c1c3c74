"""Names of sources where they are part of the name of a metric or parameter."""

import hashlib
import posixpath
import re

_OTHERS = re.compile(r"[^\w.\- ]")  # characters that MLflow does not take, or takes for folders
_VALID = re.compile(r"[\w.\- /]+")
_LENGTH = 150  # characters; MLflow's limit for a whole name is 250


def in_names(source: str) -> str:
    """Return a source's name as part of the name of a metric or parameter.

    Args:
        source: Name of a source, such as "H&M (DE)".

    Returns:
        The name itself if MLflow takes it; else one with "_" in place of other characters, and with
        the beginning of its digest, so that names that differ stay different.
    """
    plain = f"x/{source}"  # where a name may begin with ".."
    valid = _VALID.fullmatch(source) and posixpath.normpath(plain) == plain and ".." not in source
    if valid and len(source) <= _LENGTH:
        return source
    digest = hashlib.sha256(source.encode()).hexdigest()[:6]
    return f"{_OTHERS.sub('_', source)[:_LENGTH]}-{digest}"


def metric_name(name: str) -> str:
    """Return the name under which a metric is logged, such as "test_f1__H_M _DE_-0b8a2c".

    Args:
        name: The metric's name, which ends with that of the source after "__" if it is of one.
    """
    metric, joint, source = name.partition("__")
    return f"{metric}{joint}{in_names(source)}" if joint else name
