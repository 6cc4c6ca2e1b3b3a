"""Tables and texts about trials that the command line prints."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text
from zap.monitoring.trials import CAVEAT

# Statuses that are several words.
_WORDS = {"not_worse": "not worse"}


def print_trial(trial: dict[str, Any]) -> None:
    """Print what is known about one trial, in sentences."""
    said = f"Trial {trial['trial_id']} of version {trial['model_version']} beside version {trial['champion_version']}"
    status = trial["status"]
    if status == "running":
        said += f" runs, until {trial['longest_until']:%Y-%m-%d} at the latest"
    else:
        said += " has ended" + (f": {_WORDS.get(status, status)}" if status != "ended" else "")
    console().print(f"{said}. {trial['evidence']['message']}")


def print_trials(trials: list[dict[str, Any]]) -> None:
    """Print a table of trials, and what the comparison of both versions cannot see."""
    if not trials:
        console().print("no trials; `zap models try VERSION` begins one")
        return
    # Two lines for a trial in a terminal of 80 columns.
    table = Table(
        number("no."),
        text("version", width=10),
        text("status", width=9),
        text("look", width=7),
        number("drivers", width=7),
        text("gain", width=18),
        text("began", width=10),
        text("who"),
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for one in trials:
        evidence, looked = one["evidence"], one["evidence"].get("look")
        table.add_row(
            str(one["trial_id"]),
            f"{one['model_version']} beside {one['champion_version']}",
            _WORDS.get(one["status"], one["status"]),
            f"{looked or 0} of {one['weeks']}",
            f"{evidence['drivers']:,}" if looked else "",
            f"{evidence['mean']:+.4f}\n{evidence['low']:+.4f} to {evidence['high']:+.4f}" if looked else "",
            f"{one['started_at']:%Y-%m-%d}",
            one["who"] or "",
        )
    shown = console()
    shown.print(table)
    shown.print(
        "gain: how much lower the Brier score (halved, 0 to 1) of the version is than the score of the version beside"
        f" it, with its interval. {CAVEAT}"
    )
