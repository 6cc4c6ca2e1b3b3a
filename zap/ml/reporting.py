"""How late sessions are stored, and how many have no end, measured on the newest sessions of a history.

The columns of the present count sessions of all drivers. An answer cannot count a session that is not stored yet. So if
sessions are stored late, a training takes the present of a moment that lies longer before the start of each session.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap.ml.cells import read_wall_time
from zap.ml.population_now import OPEN_SESSIONS, PRESENT_GROUPS
from zap.sentences import phrase, say, say_many

# The groups of columns that count sessions of all drivers.
GROUPS = tuple(PRESENT_GROUPS)

_DAY = 24 * 3600
# The newest sessions: of these days, and at least this number, so that a start in the far future does not hide all
# other sessions.
_NEWEST_DAYS = 56
_FEWEST_NEWEST = 100
_MOST_NEWEST = 10_000
# With fewer usable timestamps, the 95 % quantile would be the delay of one or two sessions.
_FEWEST_TIMESTAMPS = 30
_QUANTILE = 0.95
# With a longer delay, the columns say little about an answer.
_LONGEST_DELAY_MINUTES = 7 * 24 * 60
# An upload is the sessions that were stored within a day. An upload is a load of older data if the middle 80 % of its
# starts span more than this. In a monthly upload they span 25 days, so it is no load. An upload of many timely sessions
# and a few late sessions is no load either.
_LOAD_DAYS = 28
_FEWEST_IN_A_LOAD = 10
# If more uploads look like loads, sessions are always stored late.
_MOST_LOADS = 3
_MIDDLE = (0.1, 0.9)

_COLUMNS = ["session_id", "charging_start_time", "charging_end_time", "charging_duration_hours"]


# Sessions of the last day of a history that should have ended: with fewer of them, late ends are not noticed.
_FEWEST_ENDED = 10


class Reporting(NamedTuple):
    """How late the newest sessions of a history were stored, and how many have no end.

    Attributes:
        delay_minutes: 95 % of the newest sessions were stored within this number of minutes after their start; None if
            the delay is not known.
        without_end: the share of the newest sessions that have neither an end nor a duration.
        measured: the number of sessions with which the delay was measured.
        without_end_lately: the share without an end and a duration of the sessions of the last day that should have
            ended, because 95 % of the sessions last no longer. 0 if there are too few.
    """

    delay_minutes: int | None
    without_end: float
    measured: int
    without_end_lately: float = 0.0

    @property
    def delay(self) -> int:
        """Return how many minutes after their start a training takes sessions as known.

        A delay of a minute does not matter. If a training must leave out all columns of the present, it takes 0.
        """
        none = self.delay_minutes is None or self.delay_minutes <= 1 or len(self.left_out()) == len(GROUPS)
        return 0 if none else self.delay_minutes or 0

    def lag_minutes(self, asked_before: int) -> int:
        """Return the lag: how many minutes before the start of a session the moment of its present lies.

        Args:
            asked_before: how many minutes before the start of a session its driver asks.
        """
        return asked_before + self.delay

    def left_out(self) -> dict[str, str]:
        """Return the groups of columns that a training must leave out, each with the reason in words."""
        if (self.delay_minutes or 0) > _LONGEST_DELAY_MINUTES:
            return dict.fromkeys(GROUPS, self.delay_in_words())
        if self.without_end > 0.5:
            reason = say(
                "{share:.0%} of the newest sessions have neither an end nor a duration", share=self.without_end
            )
            return {OPEN_SESSIONS: reason}
        if self.without_end_lately > 0.5:
            reason = say(
                "{share:.0%} of the last day's sessions have no end yet, so ends are stored late",
                share=self.without_end_lately,
            )
            return {OPEN_SESSIONS: reason}
        return {}

    def leaving_out(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return hyper-parameters with which the trees do not use the groups of `left_out` either."""
        if not self.left_out():
            return dict(params)
        return {**params, "left_out": list(dict.fromkeys([*params.get("left_out", ()), *self.left_out()]))}

    def delay_in_words(self) -> str:
        """Return what is known about the delay, as part of a sentence."""
        if self.delay_minutes is None:
            return say("it is not known how long after their start sessions are stored")
        return say(
            "5 % of the newest sessions were stored {time} or more after their start",
            time=_in_words(self.delay_minutes),
        )

    def in_words(self, asked_before: int) -> str:
        """Return sentences about late reports and missing ends; an empty text if there is nothing to say."""
        left_out = self.left_out()
        reasons = {reason: [name for name in left_out if left_out[name] == reason] for reason in left_out.values()}
        sentences = [
            say("These columns are left out: {names:s}, because {reason}.", names=", ".join(names), reason=reason)
            for reason, names in reasons.items()
        ]
        lag = self.lag_minutes(asked_before)
        if lag > asked_before:
            sentences.append(
                say(
                    "The columns of the present end {time} before each session, because {reason}.",
                    time=_in_words(lag),
                    reason=self.delay_in_words(),
                )
            )
        return " ".join(sentences)

    def as_dict(self, asked_before: int) -> dict[str, Any]:
        """Return the measurement as JSON for the report of a training."""
        return {
            "delay_minutes": self.delay_minutes,
            "delay_in_words": self.delay_in_words(),
            "measured_sessions": self.measured,
            "without_end": round(self.without_end, 4),
            "without_end_lately": round(self.without_end_lately, 4),
            "lag_minutes": self.lag_minutes(asked_before),
            "left_out": self.left_out(),
        }


def newest_sessions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the newest sessions of a cleaned frame, for `measure_reporting`: at most 10,000, evenly spread over time.

    Only the timestamps of these sessions are read, because a history may have millions of sessions.
    """
    starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    if not len(starts):
        return frame[_COLUMNS]
    first = int(np.searchsorted(starts, starts[-1] - np.timedelta64(_NEWEST_DAYS, "D")))
    first = max(0, min(first, len(starts) - _FEWEST_NEWEST))
    count = min(len(starts) - first, _MOST_NEWEST)
    # The rows are taken before the columns, because pandas would copy the columns of the whole frame.
    return frame.iloc[np.linspace(first, len(starts) - 1, count).astype(np.int64)][_COLUMNS]


def measure_reporting(newest: pd.DataFrame, timestamps: Mapping[int, object]) -> Reporting:
    """Measure how late the newest sessions were stored, and how many have no end.

    Args:
        newest: the result of `newest_sessions`.
        timestamps: for each session_id the raw text of ChargingSessions.timestamp, which is wall time like the starts.
            A text in another form, or with an offset, counts as missing.
    """
    if not len(newest):
        return Reporting(None, without_end=0.0, measured=0)
    no_end = (newest["charging_end_time"].isna() & newest["charging_duration_hours"].isna()).to_numpy()
    stored = np.array(
        [read_wall_time(timestamps.get(session_id)) for session_id in newest["session_id"].tolist()],
        dtype="datetime64[s]",
    )
    starts = newest["charging_start_time"].to_numpy(dtype="datetime64[s]")
    ends = {"without_end": float(no_end.mean()), "without_end_lately": _without_end_lately(newest, starts, no_end)}
    # A timestamp before the start says nothing about the delay. A comparison with a missing time is false.
    usable = stored >= starts
    delays = _delays(starts[usable].astype(np.int64), stored[usable].astype(np.int64))
    # If all timestamps equal the starts, some program has copied the starts.
    if len(delays) < _FEWEST_TIMESTAMPS or not delays.any():
        return Reporting(None, measured=0, **ends)
    delay = float(np.quantile(delays, _QUANTILE, method="higher"))
    return Reporting(math.ceil(delay / 60), measured=len(delays), **ends)


def _without_end_lately(newest: pd.DataFrame, starts: np.ndarray, no_end: np.ndarray) -> float:
    """Return the share without an end of the sessions of the last day that should have ended.

    Args:
        newest: the newest sessions in order of start.
        starts: their starts.
        no_end: for each session whether it has neither an end nor a duration.
    """
    stops = newest["charging_end_time"].to_numpy(dtype="datetime64[s]")
    hours = np.where(
        np.isnat(stops), newest["charging_duration_hours"].to_numpy(), (stops - starts).astype(np.float64) / 3600
    )
    if no_end.all():
        return 0.0
    longest = np.timedelta64(round(3600 * float(np.nanquantile(hours, _QUANTILE))), "s")
    ended = (starts > starts[-1] - np.timedelta64(1, "D")) & (starts < starts[-1] - longest)
    return float(no_end[ended].mean()) if ended.sum() >= _FEWEST_ENDED else 0.0


def _delays(starts: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the delays in seconds of n sessions, without the sessions of a load of older data.

    Args:
        starts: int64 of shape (n,), seconds on the wall clock.
        stored: int64 of shape (n,), when the sessions were stored, not before their starts.
    """
    order = np.argsort(stored, kind="stable")
    starts, stored = starts[order], stored[order]
    # The sessions at i to ends[i] - 1 were stored within a day.
    ends = np.searchsorted(stored, stored + _DAY, side="right")
    tells = np.ones(len(stored), dtype=bool)
    # The first upload may be one of many uploads, or a load of older data: no earlier upload tells which.
    if len(stored) and _span(starts[: ends[0]]) > _DAY:
        tells[: ends[0]] = False
    loads = _loads(starts, ends)
    if len(loads) <= _MOST_LOADS:
        for load in loads:
            tells[load] = False
    delays: np.ndarray = (stored - starts)[tells]
    return delays


def _loads(starts: np.ndarray, ends: np.ndarray) -> list[slice]:
    """Return the places of the sessions of each load of older data.

    Args:
        starts: the starts of n sessions in the order in which they were stored.
        ends: for each session, the first place of a session that was stored more than a day later.
    """
    loads = []
    seen = np.zeros(len(starts), dtype=bool)
    sizes = ends - np.arange(len(ends))
    # The largest upload comes first, so that no smaller upload cuts a load into two.
    for first in np.argsort(-sizes, kind="stable"):
        if sizes[first] < _FEWEST_IN_A_LOAD:
            break
        if not seen[first]:
            day = slice(first, ends[first])
            seen[day] = True
            if _span(starts[day]) > _LOAD_DAYS * _DAY:
                loads.append(day)
    return loads


def _span(starts: np.ndarray) -> int:
    """Return how many seconds the middle 80 % of the starts span."""
    first, last = _MIDDLE
    return int(np.quantile(starts, last, method="lower") - np.quantile(starts, first, method="higher"))


def _in_words(minutes: int) -> str:
    for unit, size in ((phrase("days"), 24 * 60), (phrase("hours"), 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:,.0f} {unit}" if minutes >= 10 * size else f"{minutes / size:.2g} {unit}"
    return say_many("{n:d} minute", "{n:d} minutes", minutes)
