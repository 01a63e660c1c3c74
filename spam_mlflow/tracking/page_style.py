"""The style of the pages that runs log: light, dark, on narrow screens and on paper."""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


def css() -> "Markup":
    """Return the style sheet, which stands in each page: none needs anything from elsewhere."""
    from markupsafe import Markup

    return Markup(
        resources.files("spam_mlflow.tracking").joinpath("page_style.css").read_text("utf-8")
    )
