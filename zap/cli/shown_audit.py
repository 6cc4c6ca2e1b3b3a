"""The table of the audit that the command line prints."""

import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text


def print_audit(rows: list[dict[str, Any]]) -> None:
    """Print a table of changes; --json prints all of their values."""
    if not rows:
        console().print("no changes")
        return
    table = Table(
        number("row"),
        text("when (UTC)", no_wrap=True),
        text("who"),
        text("from"),
        text("what"),
        text("on what"),
        text("before"),
        text("after"),
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for row in rows:
        moment = row["happened_at"]
        table.add_row(
            str(row["audit_id"]),
            "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}",
            row["who"],
            row["origin"],
            row["action"],
            row["subject"],
            *("" if row[name] is None else _shown(row[name]) for name in ("before", "after")),
        )
    console().print(table)


def _shown(values: dict[str, Any]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in given.items()
    )
