"""GET /pages/data/history: sessions by month and type, drivers, holes, and what the newest training left out."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State

from zap.db.runs.training_runs import newest_report
from zap.flows.history_figures import HistoryCounter, HistoryFigures
from zap.pages import data_words
from zap.pages.page import answer
from zap.pages.plots import Line, Plot
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import PAGE
from zap.scopes import READ, needs

# How long the page waits for new figures; a small history is counted in this time.
_PATIENCE_SECONDS = 0.04
# Types with a line of their own; the others share one.
_MOST_LINES = 5
_DAY_SECONDS = 86_400.0
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@get("/pages/data/history", opt=PAGE | needs(READ))
async def history(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show the history."""
    state, language = request.app.state, read_reader(request).language
    return await answer(request, "data_history.html", lambda: _read(state, language))


def _read(state: State, language: str) -> Mapping[str, Any]:
    counter: HistoryCounter = state.history_counter
    found = counter.read(_PATIENCE_SECONDS)
    report = newest_report(state.engine, ("dropped", "left_out_types", "training_run"))
    has_sessions = found is not None and bool(found.months)
    return {
        "figures_of_history": found,
        "has_failed": counter.has_failed,
        "sessions_plot": _sessions_plot(found, language) if found and has_sessions else None,
        "drivers_plot": _drivers_plot(found, language) if found and has_sessions else None,
        "types": _types(found) if found else (),
        "holes": found.holes if found else (),
        "report": report,
        "dropped": _dropped((report and report["dropped"]) or {}),
        "data_words": data_words,
    }


def _sessions_plot(found: HistoryFigures, language: str) -> Plot:
    """Return the sessions of each month by type: the most frequent types, and all others together."""
    _ = texts_in(language).translations.gettext
    # One other type has a name; several are "other types".
    names = found.types if len(found.types) <= _MOST_LINES + 1 else found.types[:_MOST_LINES]
    lines = [Line(name or _("other types"), [month.types.get(name, 0) for month in found.months]) for name in names]
    if len(names) < len(found.types):
        rest = [sum(month.types.values()) - sum(month.types.get(name, 0) for name in names) for month in found.months]
        lines.append(Line(_("other types"), rest))
    return Plot(_places(found), lines, _("Month from"), _("sessions a month"), decimals=0, y_from=0.0)


def _drivers_plot(found: HistoryFigures, language: str) -> Plot:
    _ = texts_in(language).translations.gettext
    lines = [Line(_("drivers"), [month.drivers for month in found.months])]
    return Plot(_places(found), lines, _("Month from"), _("drivers a month"), decimals=0, y_from=0.0)


def _places(found: HistoryFigures) -> list[float]:
    return [(month.month.toordinal() - _EPOCH_DAY) * _DAY_SECONDS for month in found.months]


def _types(found: HistoryFigures) -> Sequence[tuple[str, int]]:
    """Return the sessions of each type in all months."""
    return [(name, sum(month.types.get(name, 0) for month in found.months)) for name in found.types]


def _dropped(dropped: Mapping[str, Any]) -> Sequence[tuple[str, str, str, int]]:
    """Return what a training left out: the kind, the column, the reason and the number of each entry.

    Args:
        dropped: as in the report of the training. An older zap did not report all of it.
    """
    found = {kind: dropped.get(kind) or {} for kind in ("rows", "values", "strangers", "undated")}
    rows = [("rows", "", reason, count) for reason, count in found["rows"].items()]
    values = [
        ("values", column, reason, count) for column, of in found["values"].items() for reason, count in of.items()
    ]
    strangers = [("strangers", "", reason, count) for reason, count in found["strangers"].items()]
    undated = [("undated", column, "", count) for column, count in found["undated"].items()]
    return sorted([*rows, *values, *strangers, *undated], key=lambda one: (one[0] != "rows", one[0], -one[3]))
