"""The columns of the tables that the command line prints, and the console that shows the tables."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Column


def text(header: str, **options: Any) -> Column:
    """Return a column of texts. A text that is too long goes on in the next line, and nothing of it is cut off."""
    return Column(header, overflow="fold", **options)


def number(header: str, **options: Any) -> Column:
    """Return a column of numbers, which stand at its right side."""
    return Column(header, justify="right", overflow="fold", **options)


def console() -> Console:
    """Return the console of standard output."""
    # Charger types are data, so brackets in them must not be read as rich's markup. With its file, rich knows the
    # encoding, and draws lines in ASCII where that is all there is.
    return Console(file=sys.stdout, markup=False, highlight=False)
