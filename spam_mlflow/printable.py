"""Text of others in one line, which cannot steer the terminal that it is printed to."""


def printable(text: str, longest: int) -> str:
    """Return the start of a text in one line.

    Args:
        text: Any text.
        longest: Characters of it that are kept.

    Returns:
        The text with single spaces, and U+FFFD for each character that is not printable, such as an
        escape or a mark that changes the direction of what follows.
    """
    shown = " ".join(text.split())[:longest]
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in shown)
