"""Small figures as SVG: bars, intervals, sparklines, calibration. They have no inline style, as the policy demands.

The colours are classes of `pages.css`. Each figure stands beside its numbers as text, so that screen readers skip it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

_WIDTH = 100.0
# Percents at the axes of the calibration.
_TICKS = (0, 25, 50, 75, 100)


class Bin(NamedTuple):
    """Answers of about the same confidence: their mean confidence, how many were right (0 to 1), and their number."""

    confidence: float
    accuracy: float
    answers: int


def bar(share: float, kind: str = "") -> Markup:
    """Return a bar of a share (0 to 1).

    Args:
        share: its length; values outside 0 to 1 are cut.
        kind: a class of its colour: `second`, `good`, `bad` or `` for the first colour.
    """
    width = _at(share)
    return Markup(
        '<svg class="bar {}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" width="100" height="8"/><rect class="value" width="{}" height="8"/></svg>'
    ).format(kind, _short(width))


def interval(
    value: float, low: float, high: float, *, zero: float = 0.0, scale: tuple[float, float] | None = None
) -> Markup:
    """Return a value with its interval on a line, beside the place `zero` where there is no difference.

    Args:
        value: the value.
        low: the lower end of its interval.
        high: the upper end.
        zero: where there is no difference.
        scale: the ends of the line, for figures that are compared; by default all of this figure.
    """
    first, last = scale or (low, high)
    first, last = min(first, low, zero, value), max(last, high, zero, value)
    room = (last - first) or 1.0
    first, room = first - 0.08 * room, 1.16 * room
    places = [_short(_at((one - first) / room)) for one in (zero, low, high, value)]
    return Markup(
        '<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="zero" d="M{0} 0V12"/><path class="range" d="M{1} 6H{2}"/>'
        '<path class="ends" d="M{1} 3V9M{2} 3V9"/><path class="value" d="M{3} 1V11"/></svg>'
    ).format(*places)


def sparkline(values: Sequence[float | None], low: float | None = None) -> Markup:
    """Return a line of values without axes. A missing value leaves a gap.

    Args:
        values: the values.
        low: the value at the foot; by default the smallest one.
    """
    known = [one for one in values if one is not None]
    if not known:
        return Markup("")
    low = min(known) if low is None else low
    room = (max(known) - low) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    path, pen_down = [], False
    for place, one in enumerate(values):
        if one is not None:
            path.append(f"{'L' if pen_down else 'M'}{_short(place * step)} {_short(22 - 20 * (one - low) / room)}")
        pen_down = one is not None
    return Markup(
        '<svg class="sparkline" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><path d="{}"/></svg>'
    ).format("".join(path))


def calibration(bins: Sequence[Bin], x_label: str, y_label: str) -> Markup:
    """Return how often answers were right by their confidence: on the diagonal they are as good as they say.

    Args:
        bins: the answers by confidence.
        x_label: the label of the axis of confidence, with its unit.
        y_label: the label of the axis of accuracy, with its unit.
    """
    most = max((one.answers for one in bins), default=1) or 1
    point = Markup('<circle cx="{}" cy="{}" r="{}"/>')
    points = [
        point.format(*map(_short, (30 + 1.6 * _at(one.confidence), 170 - 1.6 * _at(one.accuracy), _radius(one, most))))
        for one in bins
    ]
    tick = Markup(
        '<path class="grid" d="M30 {2}H190M{1} 10V170"/><text x="{1}" y="183" text-anchor="middle">{0}</text>'
        '<text x="25" y="{3}" text-anchor="end">{0}</text>'
    )
    ticks = [tick.format(share, 30 + 1.6 * share, 170 - 1.6 * share, 173 - 1.6 * share) for share in _TICKS]
    return Markup(
        '<svg class="calibration" viewBox="0 0 200 200" aria-hidden="true">'
        '{}<path class="diagonal" d="M30 170L190 10"/><g class="points">{}</g>'
        '<text x="110" y="197" text-anchor="middle">{}</text>'
        '<text transform="translate(8 90) rotate(-90)" text-anchor="middle">{}</text></svg>'
    ).format(Markup("").join(ticks), Markup("").join(points), x_label, y_label)


def _radius(one: Bin, most: int) -> float:
    """Return the radius of a point, whose area grows with the number of answers."""
    return 2 + 5 * math.sqrt(one.answers / most)


def _at(share: float) -> float:
    return _WIDTH * min(1.0, max(0.0, share))


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
