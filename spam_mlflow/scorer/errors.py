"""The one exception that is shown to users as a single line instead of a traceback."""


class UserError(Exception):
    """Something that the user can fix: its message says what was wrong and what to do."""
