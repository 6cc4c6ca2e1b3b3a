"""The table of alarms that the command line prints."""

from typing import Any

from rich.table import Table

from zap.cli.tables import console, number, text


def print_alarms(alarms: list[dict[str, Any]]) -> None:
    """Print a table of alarms, and what to do about each kind that stands."""
    if not alarms:
        console().print("no alarms")
        return
    table = Table(number("no."), text("since"), text("until"), text("what"), text("message"), text("seen by"))
    for one in alarms:
        what = f"{one['kind']}: {one['subject']}" if one["subject"] else one["kind"]
        until = _minute(one["until"]) if one["until"] else "stands"
        table.add_row(
            str(one["alarm_id"]), _minute(one["since"]), until, what, one["message"], one["acknowledged_by"] or ""
        )
    console().print(table)
    for kind, advice in {one["kind"]: one["advice"] for one in alarms if one["until"] is None}.items():
        console().print(f"{kind}: {advice}")


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
