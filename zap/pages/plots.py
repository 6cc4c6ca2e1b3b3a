"""The data of plots: lines over time or over a number, with bands and marks. `plots.js` draws them with uPlot."""

from collections.abc import Sequence
from typing import Literal

import msgspec

MOST_POINTS = 500


class Line(msgspec.Struct, frozen=True):
    """A line of a plot.

    Attributes:
        name: what the legend and the table call it.
        values: one value for each place on the x axis; None where there is none.
        low, high: the ends of the interval at each place, which are drawn as a band; empty for no band.
        kind: `line`, `dashed` for something to compare with, or `steps` for a value that lasts.
    """

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    kind: Literal["line", "dashed", "steps"] = "line"


class Mark(msgspec.Struct, frozen=True):
    """A place on the x axis where something happened, such as a new version."""

    x: float
    text: str


class Plot(msgspec.Struct, frozen=True):
    """What one plot shows.

    Attributes:
        x: the places on the x axis: seconds since 1970 (UTC) if `is_time`, otherwise numbers.
        lines: the lines, at most six.
        x_label, y_label: the labels of the axes, with units.
        is_time: whether x is time.
        decimals: the decimals of the values in the table and the legend.
        marks: places where something happened.
        y_from: the least value of the y axis; None if the lines decide.
        y_is_log: whether each step of the y axis is ten times the step before. Then all values are above 0.
    """

    x: Sequence[float]
    lines: Sequence[Line]
    x_label: str
    y_label: str
    is_time: bool = True
    decimals: int = 2
    marks: Sequence[Mark] = ()
    y_from: float | None = None
    y_is_log: bool = False

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: there are more than MOST_POINTS places, or a line has another number of values.
        """
        if len(self.x) > MOST_POINTS:
            raise ValueError(f"a plot has at most {MOST_POINTS} places, not {len(self.x)}")
        for line in self.lines:
            if any(len(some) != len(self.x) for some in (line.values, line.low or self.x, line.high or self.x)):
                raise ValueError(f"the line {line.name} needs {len(self.x)} values")

    def json(self) -> str:
        """Return the data for the script."""
        return msgspec.json.encode(self).decode()
