"""The order of day, month and year in the dates of a history file. It is decided once, and never row by row."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from zap.errors import BadHistoryFile
from zap.formats.history_times import DATE_ORDERS, DateOrder, date_part, readings

# The orders in which a text is a date.
_Orders = frozenset[DateOrder]
_YEAR_FIRST: _Orders = frozenset({"year-first"})


def _tomorrow() -> date:
    return datetime.now(UTC).date() + timedelta(days=1)


@dataclass
class TimeSurvey:
    """What the texts of one column tell about the order of its dates.

    Attributes:
        latest: the last day on which a session can have started.
        date_only: the number of dates without a time of day.
        whole: a date that begins with a year of four digits.
        examples: for the orders that are possible for a text, the first such text.
        future: the orders in which a date with a year of two digits is after `latest`.
        falling: the orders in which a date with a year of two digits is before the date above it.
    """

    latest: date = field(default_factory=_tomorrow)
    date_only: int = 0
    whole: str | None = None
    examples: dict[_Orders, str] = field(default_factory=dict)
    future: set[DateOrder] = field(default_factory=set)
    falling: set[DateOrder] = field(default_factory=set)
    _above: Mapping[DateOrder, date] = field(default_factory=dict)

    def look(self, texts: Iterable[str]) -> None:
        """Look at the next texts of the column."""
        for text in texts:
            # Most files write times in this form, which leaves nothing to decide.
            if len(text) > 10 and text[4] == "-" and text[:4].isdigit():
                self.whole = text
            else:
                self._look_closely(text)

    def _look_closely(self, text: str) -> None:
        written, rest = date_part(text)
        if written is None:
            return
        if not rest:
            self.date_only += 1
        found = readings(written)
        if not found:
            self.whole = text if text[:4].isdigit() else self.whole
            return
        if len(found) > 1 and len({*found.values()}) == 1:
            # A date such as 05/05/2024 means one day in all orders.
            return
        self.examples.setdefault(frozenset(found), text)
        if written[-3] in "-/.":
            for order, day in found.items():
                if day > self.latest:
                    self.future.add(order)
                if order in self._above and day < self._above[order]:
                    self.falling.add(order)
            self._above = found


@dataclass(frozen=True)
class OrderDecision:
    """How the dates of a file are read.

    Attributes:
        order: how dates are written that do not begin with a year of four digits; None if there are no such dates.
        example: such a date of the file.
        reason: why they are read in this way, for people.
    """

    order: DateOrder | None
    example: str | None = None
    reason: str = ""


def decide_order(
    surveys: Mapping[str, TimeSurvey], given: DateOrder | None, *, spreadsheet: bool = False
) -> OrderDecision:
    """Return how the file writes dates.

    Args:
        surveys: the survey of each column of times. All columns of a file write dates in one way.
        given: the order that the user gives, which decides.
        spreadsheet: whether the dates that begin with the year come from cells that hold a date, and not a text.

    Raises:
        BadHistoryFile: the columns contradict each other, or no text decides.
    """
    if given is not None:
        return OrderDecision(given, _example(surveys, {given}), "as --date-format says")
    if spreadsheet:
        _check_cells(surveys)
    possible = set(DATE_ORDERS).intersection(*(orders for orders, _, _ in _examples(surveys)))
    if not possible:
        raise _contradiction(surveys)
    if _example(surveys, possible) is None:
        return OrderDecision(None)
    reason = ""
    if len(possible) > 1:
        possible, reason = _likely(surveys, possible)
    if len(possible) > 1:
        raise _question(surveys, possible)
    (order,) = possible
    if not reason:
        alone = any(orders == possible for orders, _, _ in _examples(surveys))
        reason = f"because {'this date has' if alone else 'all dates of the file together have'} no other meaning"
    return OrderDecision(order, _example(surveys, possible), reason)


def _likely(surveys: Mapping[str, TimeSurvey], possible: set[DateOrder]) -> tuple[set[DateOrder], str]:
    """Return the likely orders of dates with a year of two digits, and the reason.

    A date such as 24/01/31 can begin with the year or with the day. Sessions are not in the future, and most files are
    in order of time. The reason never decides between the day and the month.
    """
    others = possible - _YEAR_FIRST
    if others == possible:
        return possible, ""
    future = {order for survey in surveys.values() for order in survey.future}
    # Sessions are in the order of their starts, if they are in order at all.
    falling = surveys["charging_start_time"].falling if "charging_start_time" in surveys else set()
    for unlikely, reason in (
        (future, "because otherwise dates would be in the future"),
        (falling, "because otherwise the dates would not be in order of time"),
    ):
        if ("year-first" in unlikely) != (others <= unlikely):
            return (others if "year-first" in unlikely else set(_YEAR_FIRST)), reason
    return possible, ""


def _check_cells(surveys: Mapping[str, TimeSurvey]) -> None:
    """Raise if a column has date cells, and also texts that are dates.

    A spreadsheet program that opens a CSV file of another country makes 04/05/2024 a date with day and month exchanged,
    and leaves 31/05/2024 a text.
    """
    for name, survey in surveys.items():
        text = next(iter(survey.examples.values()), None)
        if survey.whole is not None and text is not None:
            raise BadHistoryFile(
                f"{name} has cells that hold a date ({survey.whole}) and cells that hold a text ({text!r}), so the"
                " program that wrote the file may have exchanged days and months; import the original file, or say"
                " with --date-format how the texts are written"
            )


def _contradiction(surveys: Mapping[str, TimeSurvey]) -> BadHistoryFile:
    found = list(_examples(surveys))
    pairs = [(one, other) for one in found for other in found if not one[0] & other[0]]
    (orders, name, text), (other_orders, other_name, other) = pairs[0] if pairs else (found[0], found[-1])
    return BadHistoryFile(
        f"{name} {text!r} can only have {_parts(orders)} first and {other_name} {other!r} only {_parts(other_orders)};"
        " write all dates in one way; or say with --date-format which order zap reads; zap then refuses the other dates"
    )


def _question(surveys: Mapping[str, TimeSurvey], possible: set[DateOrder]) -> BadHistoryFile:
    name, text = next((name, text) for orders, name, text in _examples(surveys) if orders >= possible)
    options = " or ".join(f"--date-format {order}" for order in DATE_ORDERS if order in possible)
    return BadHistoryFile(
        f"{name} {text!r} can have {_parts(possible)} first, and no other date of the file decides; say which with"
        f" {options}"
    )


def _parts(orders: Iterable[DateOrder]) -> str:
    """Return words such as `the day or the month`."""
    return " or ".join(f"the {order.removesuffix('-first')}" for order in DATE_ORDERS if order in {*orders})


def _example(surveys: Mapping[str, TimeSurvey], orders: set[DateOrder]) -> str | None:
    """Return the first text that only these orders can read, or else the first text that they can read."""
    found = [text for one, _, text in _examples(surveys) if one == orders]
    found += [text for one, _, text in _examples(surveys) if one & orders]
    return next(iter(found), None)


def _examples(surveys: Mapping[str, TimeSurvey]) -> Iterator[tuple[_Orders, str, str]]:
    """Yield the possible orders of each text, the column of the text, and the text."""
    for name, survey in surveys.items():
        for orders, text in survey.examples.items():
            yield orders, name, text
