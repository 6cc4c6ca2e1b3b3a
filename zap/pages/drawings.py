"""The geometry of two drawings: the waterfall of an explanation, and a time line of sessions and answers.

`drawings.html` draws them. Places along the x axis are percents of the width, so that the drawings fit every screen and
their texts keep their size.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

# The most points of one series.
MOST_POINTS = 500
# The most charger types with a lane of their own.
_MOST_LANES = 8
_ROW, _LANE = 31, 36
_FIRST, _ROOM = 2.0, 96.0


class Step(NamedTuple):
    """A bar of a waterfall.

    Attributes:
        code: a group of columns, `averaging` or `total`.
        value: what it adds to the log-ratio.
        x, width: its place, in percent of the width.
        y: its place from the top.
    """

    code: str
    value: float
    x: float
    width: float
    y: int


class Waterfall(NamedTuple):
    """The steps from even chances to the log-ratio of an answer; `zero` is the place of even chances."""

    steps: Sequence[Step]
    zero: float
    height: int


Kind = Literal["session", "answer", "right", "wrong"]


class Point(NamedTuple):
    """A session or an answer on a time line.

    Attributes:
        kind: what it is; an answer without a known session is `answer`.
        at: the moment, as the drivers' wall time.
        charger_type: the type of the session, or the answered type.
        x, y: its place.
    """

    kind: Kind
    at: datetime
    charger_type: str
    x: float
    y: int


class TimeLine(NamedTuple):
    """Lanes by charger type, with points over time.

    Attributes:
        lanes: the types, each with its place; None for all further types.
        points: the points.
        ticks: moments along the axis, each with its place and its anchor.
        asked: the place of the moment that was asked about; None without one.
        height: of the whole drawing.
        is_short: whether all points are within two days, so that ticks need the time of day.
    """

    lanes: Sequence[tuple[str | None, int]]
    points: Sequence[Point]
    ticks: Sequence[tuple[datetime, float, str]]
    asked: float | None
    height: int
    is_short: bool


def waterfall(told: Mapping[str, Any]) -> Waterfall:
    """Return the waterfall of an explanation, the largest group first.

    Args:
        told: the explanation, as `VersionExplainer.explain` returns it.
    """
    groups: Mapping[str, float] = told["groups"]
    added = sorted(((one, value) for one, value in groups.items() if value), key=lambda one: -abs(one[1]))
    if told["averaging"]:
        added.append(("averaging", told["averaging"]))
    ends, total = [0.0], 0.0
    for _, value in added:
        total += value
        ends.append(total)
    low, high = min(ends), max(ends)
    room = (high - low) or 1.0

    def at(value: float) -> float:
        return round(_FIRST + _ROOM * (value - low) / room, 2)

    bars = [*((code, value, begin) for (code, value), begin in zip(added, ends, strict=False))]
    bars.append(("total", told["log_ratio"], 0.0))
    steps = []
    for place, (code, value, begin) in enumerate(bars):
        left, right = sorted((at(begin), at(begin + value)))
        steps.append(Step(code, value, left, round(max(0.4, right - left), 2), place * _ROW))
    return Waterfall(steps, at(0.0), len(bars) * _ROW)


def time_line(dated: Sequence[tuple[Kind, datetime, str]], asked: datetime | None = None) -> TimeLine | None:
    """Return a time line; None without sessions and answers.

    Args:
        dated: the sessions and answers: what each is, its moment and its type. Of each kind at most MOST_POINTS.
        asked: the moment that was asked about, at which the line ends.
    """
    if not dated:
        return None
    often = [name for name, _ in Counter(name for _, _, name in dated).most_common()]
    own = sorted(often[:_MOST_LANES])
    lanes: list[tuple[str | None, int]] = [(name, place * _LANE) for place, name in enumerate(own)]
    if len(often) > _MOST_LANES:
        lanes.append((None, len(own) * _LANE))
    heights = {name: y for name, y in lanes if name is not None}
    moments = [at for _, at, _ in dated] + ([asked] if asked is not None else [])
    first, last = min(moments), max(moments)
    room = (last - first).total_seconds() or 1.0

    def x_of(at: datetime) -> float:
        return round(_FIRST + _ROOM * (at - first).total_seconds() / room, 2)

    points = [Point(kind, at, name, x_of(at), heights.get(name, len(own) * _LANE) + 24) for kind, at, name in dated]
    middle = first + (last - first) / 2
    ticks = [(first, _FIRST, "start"), (middle, _FIRST + _ROOM / 2, "middle"), (last, _FIRST + _ROOM, "end")]
    return TimeLine(
        lanes,
        points,
        ticks if last > first else ticks[:1],
        None if asked is None else x_of(asked),
        len(lanes) * _LANE + 22,
        room < 2 * 86_400,
    )
