"""GET /pages/data: drift of the requests and harm of the answers, on one scale of evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from litestar import Request, Response, get
from sqlalchemy import Engine

from zap.db.monitoring.alarms import list_alarms
from zap.db.monitoring.monitor_states import KINDS
from zap.db.versions.model_registry import production_version
from zap.db.versions.promotions import rollback_target
from zap.errors import DamagedRow
from zap.flows.monitor_report import (
    DRIFT_YEARS,
    HARM_YEARS,
    DriftReport,
    FeatureDrift,
    HarmReport,
    read_drift,
    read_harm,
)
from zap.monitoring.drift import LEAST_EFFECT, WINDOWS
from zap.pages import data_words
from zap.pages.alarms import alarm_of
from zap.pages.evidence import MOST_YEARS, YEAR_SECONDS, evidence_plot, evidence_scale
from zap.pages.page import answer_reading, see_other
from zap.pages.plots import Plot
from zap.pages.query import Query, address, wrong_filter
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import PAGE
from zap.scopes import READ, needs
from zap.sentences import say

Report = TypeVar("Report")

_PATH = "/pages/data"
# More standing alarms are on the overview.
_ALARMS = 20
# Among fewer drivers a week, only large changes are found (see "How often drift is noticed" in the manual).
_FEW_DRIVERS = 300
_LARGE, _MIDDLE = 100.0, 1.0


@get(_PATH, opt=PAGE | needs(READ))
async def data(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show drift and harm of the version in production."""
    query = Query(request)
    feature = query.text("feature")
    if query.has_empty:
        return see_other(request, address(_PATH, query.values))
    language = read_reader(request).language
    return await answer_reading(request, "data.html", _read, feature, language)


def _read(engine: Engine, feature: str | None, language: str) -> Mapping[str, Any]:
    version = production_version(engine)
    number = None if version is None else version.model_version
    drift, drift_damaged = (None, None) if number is None else _undamaged(read_drift, engine, number)
    harm, harm_damaged = (None, None) if number is None else _undamaged(read_harm, engine, number)
    names = () if drift is None else drift.names
    if feature is not None and feature not in names:
        raise wrong_filter(
            "feature",
            say("is {value!r}; give one of: {choices:s}", value=feature[:40], choices=", ".join(names))
            if names
            else say("is {value!r}; give one of: none is watched", value=feature[:40]),
        )
    if drift is not None and feature is not None:
        drift = replace(drift, features=[one for one in drift.features if one.feature == feature])
    standing = [] if number is None else list_alarms(engine, _ALARMS, standing=True)
    alarms = {kind: number and alarm_of(standing, kind, number) for kind in KINDS}
    return {
        "number": number,
        "feature": feature,
        "names": names,
        "drift": drift,
        "harm": harm,
        "drift_damaged": drift_damaged,
        "harm_damaged": harm_damaged,
        "alarms": alarms,
        "earlier": alarms["harm"] and rollback_target(engine),
        "values_of": lambda one: _values(one, language),
        "drift_plot": drift and _drift_plot(drift, feature, language),
        "harm_plot": harm and _harm_plot(harm, language),
        "drift_years": DRIFT_YEARS,
        "harm_years": HARM_YEARS,
        "most_years": MOST_YEARS,
        "year_seconds": YEAR_SECONDS,
        "least_effect": LEAST_EFFECT,
        "longest_window": max(WINDOWS),
        "few_drivers": _FEW_DRIVERS,
        "evidence_scale": evidence_scale,
        "data_words": data_words,
    }


def _undamaged(
    read: Callable[[Engine, int], Report | None], engine: Engine, number: int
) -> tuple[Report | None, str | None]:
    """Return the report of a monitor, or why it cannot be read."""
    try:
        return read(engine, number), None
    except DamagedRow as error:
        return None, error.message


def _drift_plot(drift: DriftReport, feature: str | None, language: str) -> Plot | None:
    """Return the evidence over time of all features together, and of the chosen one."""
    if not drift.points:
        return None
    _ = texts_in(language).translations.gettext
    lines = [(_("all features together"), drift.points)]
    if feature is not None:
        words = data_words.FIELD_WORDS.get(feature)
        lines.insert(0, (feature if words is None else _(words) % {}, drift.features[0].points))
    return evidence_plot(lines, DRIFT_YEARS, _("Week from"), language)


def _harm_plot(harm: HarmReport, language: str) -> Plot | None:
    if not harm.points:
        return None
    _ = texts_in(language).translations.gettext
    return evidence_plot([(_("all checks together"), harm.points)], HARM_YEARS, _("Day"), language)


def _values(one: FeatureDrift, language: str) -> Sequence[tuple[str, float, float]]:
    """Return each value of a feature in words, with its share in the training and in the newest weeks."""
    texts = texts_in(language)
    _ = texts.translations.gettext
    names = list(one.training)
    if one.edges:
        ends = [texts.number(edge, _decimals(one.edges)) for edge in one.edges]
        between = [_("%(low)s to %(high)s") % {"low": low, "high": high} for low, high in pairwise(ends)]
        words = [
            _("up to %(high)s") % {"high": ends[0]},
            *between,
            _("above %(low)s") % {"low": ends[-1]},
            _("missing"),
        ]
    else:
        words = [_(data_words.VALUE_WORDS[name]) if name in data_words.VALUE_WORDS else name for name in names]
    return [(word, one.training[name], one.found[name]) for word, name in zip(words, names, strict=True)]


def _decimals(edges: Sequence[float]) -> int:
    """Return how many decimals tell these numbers apart."""
    if all(edge == int(edge) for edge in edges):
        return 0
    widest = max(abs(edge) for edge in edges)
    return 0 if widest >= _LARGE else 1 if widest >= _MIDDLE else 2
