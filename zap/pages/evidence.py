"""The scale of evidence: how seldom chance alone gives as much evidence, from a week to 10,000 years.

The scale is logarithmic, and drift and harm share it. It stands beside the evidence in words.
"""

from collections.abc import Sequence
from math import log

from markupsafe import Markup

from zap.flows.monitor_report import Point
from zap.pages.plots import Line, Plot
from zap.pages.texts import texts_in

# The ends of the scale, in years.
LEAST_YEARS, MOST_YEARS = 1 / 52, 10_000.0
YEAR_SECONDS = 365.25 * 86_400
_DAY_SECONDS = 86_400.0
_EPOCH_DAY = 719_163
# The places with a stroke: a year and a thousand years.
_STROKES = (1.0, 1_000.0)


def evidence_scale(years: float | None, threshold: float) -> Markup:
    """Return evidence as a bar on the scale, with the threshold as a line; without a bar if nothing is judged.

    Args:
        years: the evidence, in years.
        threshold: the evidence that a notice needs, in years.
    """
    strokes = Markup("").join(Markup('<path class="stroke" d="M{0} 3V9"/>').format(_place(one)) for one in _STROKES)
    return Markup(
        '<svg class="evidence" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" y="3" width="100" height="6"/><rect class="value" y="3" width="{}" height="6"/>{}'
        '<path class="threshold" d="M{} 0V12"/></svg>'
    ).format(_place(years or 0.0), strokes, _place(threshold))


def _place(years: float) -> str:
    """Return the place of evidence on the scale, 0 to 100."""
    inside = min(max(years, LEAST_YEARS), MOST_YEARS)
    return f"{100 * log(inside / LEAST_YEARS) / log(MOST_YEARS / LEAST_YEARS):.1f}"


def evidence_plot(lines: Sequence[tuple[str, Sequence[Point]]], threshold: float, x_label: str, language: str) -> Plot:
    """Return the plot of evidence over time, with the threshold.

    Args:
        lines: for each line its name and its points. All have points at the same days.
        threshold: the evidence that a notice or an alarm needs, in years.
        x_label: the label of the axis of time.
        language: of the reader.
    """
    _ = texts_in(language).translations.gettext
    points = lines[0][1]
    shown = [Line(name, [_on_scale(point.years) for point in of_line]) for name, of_line in lines]
    limit = Line(_("threshold"), [threshold] * len(points), kind="dashed")
    return Plot(
        x=[(point.begins.toordinal() - _EPOCH_DAY) * _DAY_SECONDS for point in points],
        lines=[*shown, limit],
        x_label=x_label,
        y_label=_("years"),
        y_is_log=True,
    )


def _on_scale(years: float | None) -> float | None:
    return None if years is None else min(max(years, LEAST_YEARS), MOST_YEARS)
