"""The comparison of two model versions, as the command line prints it."""

from datetime import datetime
from typing import Any

from rich.table import Table

from zap.cli.tables import console, number, text
from zap.ml.explained_groups import GROUP_WORDS

# How many columns are shown: the columns with the largest importances in the first version.
_MOST_COLUMNS = 15


def print_compared(found: dict[str, Any]) -> None:
    """Print two versions side by side, and where their test sessions differ."""
    terminal = console()
    facts = _table(found, "version", text)
    for name, both in {**found["facts"], **{f"tested {name}": one for name, one in found["tested"].items()}}.items():
        facts.add_row(name.replace("_", " "), *("" if value is None else _shown(value) for value in both))
    terminal.print(facts)
    scores = _table(found, "score", number)
    for name, both in found["scores"].items():
        scores.add_row(name.replace("_", " "), *map(_shown, both))
    for name, both in found["baselines"].items():
        scores.add_row(f"log loss of the baseline {name.replace('_', ' ')}", *map(_shown, both))
    terminal.print(scores)
    said = found["why_not"] or "the versions were tested on the same sessions"
    terminal.print(f"{said[0].upper()}{said[1:]}.")
    terminal.print(_differing(found, "hyper_parameters", "hyper-parameter"))
    terminal.print(_differing(found, "features", "feature in requests"))
    importances = _table(found, "mean contribution", number)
    for name, both in found["groups"].items():
        importances.add_row(GROUP_WORDS.get(name, name), *map(_shown, both))
    importances.add_section()
    for name, both in [*found["columns"].items()][:_MOST_COLUMNS]:
        importances.add_row(name, *map(_shown, both))
    terminal.print(importances)


def _table(found: dict[str, Any], what: str, column: Any) -> Table:
    return Table(text(what), *(column(f"version {version}") for version in found["versions"]))


def _differing(found: dict[str, Any], what: str, title: str) -> Table:
    """Return a table of hyper-parameters or features. A star marks the values that differ."""
    table = _table(found, title, text)
    for name, both in found[what].items():
        values = (f"{value:g}" if isinstance(value, float) else _shown(value) for value in both)
        table.add_row(f"{'* ' if both[0] != both[1] else ''}{name}", *values)
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.4f}" if value % 1 else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
