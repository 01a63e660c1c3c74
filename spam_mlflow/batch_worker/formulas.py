"""Cells of CSV files that a spreadsheet would take for formulas, and how they are kept as text.

Excel, LibreOffice and others calculate a cell that begins with one of a few characters, even in
quotes, and a message can be written so that this sends data away. With an apostrophe in front they
show it as text. See OWASP, "CSV Injection".
"""

import re

# Full-width forms as well, which some versions of Excel take for the narrow ones.
_STARTS = r"=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
# A text that begins with apostrophes before such a character gets one more, so that one is removed
# from every cell that was changed, and from no other.
_FORMULA = re.compile(rf"'*[{_STARTS}]")
_ESCAPED = re.compile(rf"'+[{_STARTS}]")


def escaped(cell: object) -> object:
    """Return a cell with an apostrophe in front if it is text that looks like a formula."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unescaped(cell: object) -> object:
    """Return the cell that `escaped` was given."""
    return cell[1:] if isinstance(cell, str) and _ESCAPED.match(cell) else cell
