"""Tables and texts that the command line prints about hyper-parameters: their list, and the result of a search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from zap.cli.tables import console, number, text

if TYPE_CHECKING:
    from zap.ml.features import Feature


def print_parameters(parameters: Sequence["Feature"], left_out: str) -> None:
    """Print hyper-parameters with their defaults and their ranges, and the meaning of `left_out`."""
    table = Table(text("hyper-parameter"), number("default"), text("range"), text("meaning"))
    for one in parameters:
        table.add_row(one.name, f"{one.example}", one.range, one.description)
    console().print(table)
    console().print(f"left_out: {left_out}.")


def print_tuning(found: dict[str, Any]) -> None:
    """Print the result of a search for hyper-parameters."""
    terminal = console()
    if "trials" not in found:
        terminal.print("Later trainings use the defaults again.")
        return
    table = Table(
        number("log loss"),
        text("given up"),
        text("hyper-parameters"),
        title=f"log loss over {found['folds']} folds of {found['sessions']:,} sessions",
    )
    for trial in sorted(found["trials"], key=_place):
        named = {name: value for name, value in trial["hyper_parameters"].items() if name not in found["pinned"]}
        table.add_row(
            "" if trial["given_up"] else f"{trial['log_loss']:.4f}",
            _given_up(trial["given_up"]),
            in_words(named) or "the defaults",
        )
    terminal.print(table)
    if groups := found.get("groups", {}).get("worth"):
        terminal.print(_groups(groups, found["groups"]["trials"]))
    if found["pinned"]:
        terminal.print(f"In every set of hyper-parameters: {in_words(found['pinned'])}.")
    if left_out := found["hyper_parameters"].get("left_out"):
        terminal.print(f"Left out: {', '.join(left_out)}. The trees do not use these groups of columns.")
    terminal.print(
        f"Tuning {found['tuning']}: log loss {found['log_loss']:.4f}, and {found['default_log_loss']:.4f} with the"
        f" defaults; seed {found['seed']}. Later trainings use tuning {found['tuning']}, until `zap tune --forget`."
    )


def _groups(worth: Mapping[str, float], trials: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the groups of columns: the worth of each, and the tests of leaving it out."""
    table = Table(
        text("group of columns"),
        number("worth"),
        number("left out"),
        number("95 % interval"),
        text("better\nwithout"),
        title="groups of columns, for the best set: differences in log loss",
    )
    tests = {trial["left_out"][-1]: trial for trial in trials}
    for name, rise in sorted(worth.items(), key=lambda one: one[1]):
        if trial := tests.get(name):
            low, high = trial["interval"]
            difference, interval = f"{trial['log_loss_difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"
            table.add_row(name, f"{rise:+.4f}", difference, interval, "yes" if trial["better"] else "")
        else:
            table.add_row(name, f"{rise:+.4f}", "", "", "")
    return table


def _place(trial: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sort key of a trial: finished trials by log loss, then other trials, the latest given up first."""
    if given_up := trial["given_up"]:
        return 1, -given_up["folds"], -given_up["rows"], given_up["log_loss"]
    return 0, trial["log_loss"]


def _given_up(given_up: dict[str, Any] | None) -> str:
    if given_up is None:
        return ""
    folds = f"{given_up['folds']} fold{'s' if given_up['folds'] > 1 else ''}"
    return f"{given_up['behind']:.4f} behind on {folds}, {given_up['rows']:,} rows"


def in_words(values: Mapping[str, Any]) -> str:
    """Return hyper-parameters as a text. Groups of columns are named only if some are left out."""
    shown = {name: " + ".join(value) if isinstance(value, list) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value != "")
