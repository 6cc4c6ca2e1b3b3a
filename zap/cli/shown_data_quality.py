"""The tables of `zap data-quality`."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text
from zap.flows.data_quality import DataQuality, FoundInField, RefusedField, Share

_WHOLE = "(the whole body)"


def print_data_quality(report: DataQuality) -> None:
    """Print what was found in all days together, and the numbers of each day."""
    out = console()
    requests, sessions = report.all_days.requests, report.all_days.sessions
    out.print(
        f"From {report.first} to {report.last} (UTC): {requests.answered:,} answered requests,"
        f" {requests.refused:,} refused{_share(requests.refused_share)}."
    )
    out.print(
        f"Of the answered requests, {requests.without_driver:,}{_share(requests.without_driver_share)} named no driver,"
        f" {requests.unknown_drivers:,} named a driver without a known session, and"
        f" {requests.completed:,}{_share(requests.completed_share)} were completed from the database."
    )
    if requests.fields:
        out.print(_found(requests.fields, "fields of the answered requests"))
    if requests.refusals:
        out.print(_refused(requests.refusals, "refused requests"))
    out.print(
        f"Reports added {sessions.added:,} sessions, and {sessions.ended:,} sessions ended;"
        f" {sessions.refused:,} reports were refused."
    )
    if sessions.fields:
        out.print(_found(sessions.fields, "fields of the sessions that ended"))
    if sessions.refusals:
        out.print(_refused(sessions.refusals, "refused reports"))
    if report.days:
        out.print(_by_day(report))


def _table(*columns: str, title: str) -> Table:
    name, *others = columns
    return Table(text(name), *map(number, others), title=title, box=SIMPLE_HEAD, show_edge=False)


def _found(fields: Sequence[FoundInField], title: str) -> Table:
    kinds = [kind for kind in ("missing", "null", "completed", "unknown") if any(one.found == kind for one in fields)]
    table = _table("field", *kinds, title=title)
    cells = {(one.field, one.found): f"{one.count:,}{_share(one.share)}" for one in fields}
    for field in dict.fromkeys(one.field for one in fields):
        table.add_row(field, *(cells.get((field, kind), "") for kind in kinds))
    return table


def _refused(refusals: Sequence[RefusedField], title: str) -> Table:
    table = Table(text("field"), text("reason"), number("times"), title=title, box=SIMPLE_HEAD, show_edge=False)
    for one in refusals:
        table.add_row(one.field or _WHOLE, one.reason, f"{one.count:,}{_share(one.share)}")
    return table


def _by_day(report: DataQuality) -> Table:
    table = _table("day", "answered", "refused", "without driver", "sessions ended", "reports refused", title="by day")
    for day in report.days:
        requests, sessions = day.requests, day.sessions
        counts = (requests.answered, requests.refused, requests.without_driver, sessions.ended, sessions.refused)
        table.add_row(str(day.day), *(f"{count:,}" for count in counts))
    return table


def _share(share: Share) -> str:
    return "" if share is None else f" ({100 * share:.1f} %)"
