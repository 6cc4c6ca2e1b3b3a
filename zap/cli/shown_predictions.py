"""Tables of stored predictions that the command line prints."""

from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text

_MINUTE = len("2026-03-02 18:30")


def print_predictions(rows: list[dict[str, Any]], removed_before: datetime | None) -> None:
    """Print a table of answers with their outcomes; --json prints all of their values.

    Args:
        rows: the answers.
        removed_before: requests from before this moment (UTC) were removed; None if none were, or if there are more.
    """
    if rows:
        _print_table(rows)
    else:
        console().print("no answers")
    if removed_before is not None:
        console().print(f"requests from before {removed_before:%Y-%m-%d} were removed")


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(
        number("answer"),
        text("asked", no_wrap=True),
        text("driver"),
        number("version"),
        text("predicted"),
        text("used"),
        text("outcome", no_wrap=True),
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for row in rows:
        table.add_row(
            str(row["prediction_id"]),
            (row["request_timestamp"] or "")[:_MINUTE].replace("T", " "),
            row["user_id"] or "",
            str(row["model_version"] or ""),
            row["predicted_class"] + ("" if row["probability"] is None else f" ({row['probability']:.2f})"),
            row["actual_class"] or "",
            _outcome(row),
        )
    console().print(table)


def _outcome(row: dict[str, Any]) -> str:
    """Return the outcome in words, and whether the request asked about the past."""
    words = {"no_driver": "no driver", None: "not read yet"}
    said = words.get(row["outcome"], row["outcome"])
    return f"{said}\nbacktest" if row["kind"] == "backtest" else str(said)
