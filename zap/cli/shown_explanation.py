"""Tables and texts about explanations and importances that the command line prints."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from zap.cli.tables import number, text
from zap.ml.explained_groups import GROUP_WORDS

_PARTS = {"trees": "trees", "logistic": "logistic regression", "usual_mix": "usual mix"}
# How many columns the table of importances shows.
_MOST_COLUMNS = 10


def reason_lines(explanation: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each reason of a prediction, after a line that says what is explained."""
    yield f"Why the model chose {explanation['predicted_class']}, and not {explanation['runner_up']}:"
    for reason in explanation["reasons"]:
        yield f"{reason['contribution']:+.2f}  {reason['text']}"


def explanation_table(explanation: dict[str, Any]) -> Table:
    """Return a table of what each group adds to the log-ratio of the answer and of each part."""
    parts = explanation["parts"]
    headers = [f"{_PARTS[part['name']]}\n(weight {part['weight']:.2f})" for part in parts]
    title = f"what adds up to ln(p1/p2) = {explanation['log_ratio']:.3f}"
    table = Table(text("group"), number("answer"), *map(number, headers), title=title)
    for name, added in explanation["groups"].items():
        table.add_row(GROUP_WORDS[name], f"{added:+.3f}", *(f"{part['groups'][name]:+.3f}" for part in parts))
    table.add_row("averaging of the parts", f"{explanation['averaging']:+.3f}", *("" for _ in parts))
    sums = (f"{part['log_ratio']:+.3f}" for part in parts)
    table.add_row("sum", f"{explanation['log_ratio']:+.3f}", *sums)
    return table


def importances_table(importances: dict[str, Any]) -> Table:
    """Return a table of the importances of all groups and of the largest columns."""
    title = f"importances, measured on {importances['sessions']:,} test sessions"
    table = Table(text("group or column"), number("mean contribution"), number("share of gain"), title=title)
    for name, one in importances["groups"].items():
        table.add_row(GROUP_WORDS.get(name, name), f"{one['contribution']:.3f}", f"{one['gain']:.3f}")
    table.add_section()
    for name, one in [*importances["columns"].items()][:_MOST_COLUMNS]:
        table.add_row(name, f"{one['contribution']:.3f}", f"{one['gain']:.3f}")
    return table
