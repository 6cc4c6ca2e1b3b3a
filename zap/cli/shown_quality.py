"""The tables of live quality that the command line prints."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from zap.cli.tables import console, number, text

# The words for the slices of drivers without, with one and with several types in their past.
_TYPES_USED = {"none": "no type used", "one": "one type used", "several": "several types used"}
_SCORES = ("weighted_f1", "accuracy", "log_loss")
_COUNTS = ("answers", "matched", "superseded", "waiting", "no_driver", "unscored")
_INTERVAL = "95 % interval\nover drivers"


def print_quality(report: Mapping[str, Any]) -> None:
    """Print the scores of each version, and for a single version also their details."""
    shown = console()
    where = f"{report['kind']} answers about {report['from']} to {report['to']}"
    if not report["versions"]:
        shown.print(f"There are no {where}.")
        return
    tables = [_scores(report, one, f"version {one['model_version']}: {where}") for one in report["versions"]]
    tables.append(_coverage(report))
    if len(report["versions"]) == 1 and (final := report["versions"][0]["final"]) and final["scores"]:
        tables += [_baselines(final["scores"]), _types(final["scores"]), _slices(final["scores"])]
    for table in tables:
        shown.print(table)
        shown.print()
    for version in report["versions"]:
        if (expected := version["expected"]) is not None:
            shown.print(
                f"Version {version['model_version']}: the {expected['answers']:,} answers of the provisional days are"
                f" expected to be right in {expected['expected_accuracy']:.1%} (mean probability"
                f" {expected['mean_confidence']:.1%}; corrected by {expected['corrected_by_sessions']:,} sessions)."
            )
    if any(version["expected"] for version in report["versions"]):
        shown.print(report["blind_spot"])


def _table(title: str, *columns: Column) -> Table:
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)


def _scores(report: Mapping[str, Any], version: Mapping[str, Any], title: str) -> Table:
    """Return a table with the scores of a version on each period, and in the test of its training."""
    heads = ("sessions", "F1", "accu-\nracy", "log\nloss", "minus best\nbaseline", _INTERVAL)
    table = _table(title, text("outcomes"), *map(number, heads))
    for period in version["periods"]:
        days = period["from"][:7] if report["by"] == "month" else period["from"]
        _add_scores(table, days if period["final"] else f"{days}, provisional", period["scores"])
    for part in ("final", "provisional"):
        if version[part] is not None:
            _add_scores(table, part, version[part]["scores"])
    if version["promise"] is not None:
        _add_scores(table, "test", version["promise"])
    return table


def _add_scores(table: Table, outcomes: str, scores: Mapping[str, Any] | None) -> None:
    if scores is None:
        table.add_row(outcomes, "0")
        return
    table.add_row(
        outcomes,
        "" if scores["sessions"] is None else f"{scores['sessions']:,}",
        *(f"{scores[name]:.3f}" for name in _SCORES),
        f"{scores['log_loss_difference']:+.3f}",
        _ends(scores["log_loss_difference_interval"]),
    )


def _ends(interval: list[float] | None) -> str:
    return "too few drivers" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _coverage(report: Mapping[str, Any]) -> Table:
    """Return a table with the answers of each version by what is known about their outcomes."""
    heads = ("answers", "matched", "super-\nseded", "no\nsession", "no\ndriver", "not\nscored", "session\nknown")
    table = _table("what is known about the answers", number("version"), text("outcomes"), *map(number, heads))
    for version in report["versions"]:
        for part in ("final", "provisional"):
            if version[part] is not None:
                answers = version[part]["answers"]
                share = answers["label_coverage"]
                counts = (f"{answers[name]:,}" for name in _COUNTS)
                table.add_row(str(version["model_version"]), part, *counts, "" if share is None else f"{share:.1%}")
    return table


def _baselines(scores: Mapping[str, Any]) -> Table:
    heads = ("F1", "log loss", "model minus\nbaseline", _INTERVAL)
    table = _table("baselines on the final sessions", text("baseline"), *map(number, heads))
    for name, one in scores["baselines"].items():
        difference = scores["baseline_differences"][name]
        table.add_row(
            name.replace("_", " "),
            f"{one['weighted_f1']:.3f}",
            f"{one['log_loss']:.3f}",
            f"{difference['log_loss_difference']:+.3f}",
            _ends(difference["interval"]),
        )
    return table


def _types(scores: Mapping[str, Any]) -> Table:
    heads = map(number, ("precision", "recall", "F1", "sessions"))
    table = _table("by charger type, on the final sessions", text("charger type"), *heads)
    for name, one in scores["per_class"].items():
        table.add_row(name, *(f"{one[score]:.3f}" for score in ("precision", "recall", "f1")), f"{one['support']:,}")
    return table


def _slices(scores: Mapping[str, Any]) -> Table:
    heads = map(number, ("sessions", "F1", "log loss", "best baseline's log loss"))
    table = _table("by drivers' past, on the final sessions", text("drivers with"), *heads)
    for group in ("by_earlier_sessions", "by_types_used"):
        for name, some in scores[group].items():
            if some is not None:
                best = min(baseline["log_loss"] for baseline in some["baselines"].values())
                drivers = f"{name} past sessions" if group == "by_earlier_sessions" else _TYPES_USED[name]
                figures = (f"{one:.3f}" for one in (some["weighted_f1"], some["log_loss"], best))
                table.add_row(drivers, f"{some['sessions']:,}", *figures)
    return table
