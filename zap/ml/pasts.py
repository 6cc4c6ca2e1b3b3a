"""Pasts: the history columns of the drivers of any sessions, at the moments when the sessions start."""

import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import groupby

import numpy as np
import pandas as pd

from zap.ml.cells import PAST_COLUMNS, PAST_FEATURES, read_id
from zap.ml.driver_columns import PastSession
from zap.ml.history import past_sessions, started_sessions
from zap.ml.history_columns import history_columns, present_places
from zap.ml.history_walk import known_at
from zap.ml.population_history import PopulationHistory
from zap.ml.presents import presents

# The history columns of n sessions, with or without the column names.
Past = np.ndarray | pd.DataFrame

_DURATION = next(feature for feature in PAST_FEATURES if feature.name == "charging_duration_hours")
# How many sessions are converted to PastSession at a time.
_CHUNK = 50_000
# How many names an error shows.
_SHOWN = 5
_TEXT_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?")
_OFFSET = re.compile(r".*[0-9]\s*(Z|[+-][0-9]{2}:?([0-9]{2})?)", re.IGNORECASE)
_WALL_TIME = "the drivers' wall time without a zone"


class Pasts:
    """The sessions of a cleaned history, ordered so that one pass over a driver's sessions serves many moments.

    The needed columns are copied, so a later change of the frame has no effect.

    Args:
        history: cleaned sessions in any order, as `zap.read_history` returns them.

    Raises:
        TypeError: the history is not a DataFrame.
        ValueError: a column is missing or has values of a wrong type, a session has no start, or a session appears
            more than once.
    """

    def __init__(self, history: pd.DataFrame) -> None:
        check_frame(history, "the history")
        if missing := [name for name in ("user_id", *PAST_COLUMNS) if name not in history]:
            raise ValueError(
                f"the history has no column {', '.join(missing)}; pass the frame of zap.read_history, or rows of it"
            )
        owners, self._drivers = pd.factorize(driver_ids(history))
        starts = wall_times(history)
        if np.isnat(starts).any():
            raise ValueError("charging_start_time is missing in some rows of the history; leave these rows out")
        _check_single(history)
        self._types = set(history["charger_type"].dropna().unique())
        by_start = history.iloc[np.argsort(starts, kind="stable")]
        # The sessions of all drivers, for the present.
        self._every = pd.DataFrame(
            {"charger_type": by_start["charger_type"].to_numpy()}
            | {name: wall_times(by_start, name) for name in ("charging_start_time", "charging_end_time")}
            | {"charging_duration_hours": _DURATION.masked(numbers(by_start["charging_duration_hours"]))}
        )
        # Sessions with equal starts are observed in the order of their ids, as in serving.
        ranks = pd.factorize(history["session_id"], sort=True)[0] if "session_id" in history else np.zeros(len(starts))
        order = np.lexsort((ranks, starts, owners))
        order = order[owners[order] >= 0]
        self._owners = owners[order]
        self._sessions = pd.DataFrame(
            {"charger_type": history["charger_type"].iloc[order]}
            | {"charging_end_time": wall_times(history, "charging_end_time")[order]}
            | {"charging_start_time": starts[order]}
            | {feature.name: feature.masked(numbers(history[feature.name])[order]) for feature in PAST_FEATURES}
        )

    def warnings(self, sessions: pd.DataFrame, types: Sequence[str]) -> Iterator[str]:
        """Yield a warning for each sign that the history does not belong to these sessions or to the model.

        Args:
            sessions: the rows to predict.
            types: the charger types of the model.
        """
        if self._types and not self._types & set(types):
            yield (
                f"the model knows none of the history's charger types ({_shown(sorted(map(str, self._types)))});"
                f" it knows {_shown(types)}. Does the history belong to another model?"
            )
        if "user_id" not in sessions:
            yield (
                "X has no column user_id: every driver counts as new, and the history says only what all drivers do."
                " Give the column, or use a model without a history"
            )
            return
        asked = [name for name in pd.unique(driver_ids(sessions)) if name is not None]
        if asked and (pd.Index(self._drivers).get_indexer(pd.Index(asked)) < 0).all():
            drivers = _shown([repr(name) for name in self._drivers[: _SHOWN + 1]])
            yield (
                f"the history has none of the drivers of X, so every driver counts as new: X has"
                f" {_shown([repr(name) for name in asked])}; the history has {drivers}. Do both use the same ids?"
            )

    def known(
        self,
        sessions: pd.DataFrame,
        types: Sequence[str],
        population: PopulationHistory,
        asked_before: int | None,
        delay: int = 0,
    ) -> np.ndarray:
        """Return the history columns of n sessions: the past when it started, and the present when its driver asked.

        A past contains the driver's sessions that started strictly earlier. If a session names no driver, or a driver
        who is not in the history, its past is empty.

        Args:
            sessions: n rows with `charging_start_time`, in any order. Without the column `user_id` all drivers are new.
            types: the learned charger types.
            population: the mix of all drivers.
            asked_before: how many minutes before the start of a session its driver asks. With None the present is
                missing.
            delay: how many minutes after their start sessions are stored.

        Returns:
            float64 of shape (n, len(history_columns(types))).
        """
        starts = wall_times(sessions)
        if np.isnat(starts).any():
            raise ValueError("charging_start_time is missing in some rows; give every session its start")
        seconds = starts.astype(np.int64)
        # The code of each driver in the history. All sessions without a past share the code -1.
        users = driver_ids(sessions) if "user_id" in sessions else np.full(len(sessions), None)
        asked, different = pd.factorize(users)
        owners = np.append(pd.Index(self._drivers).get_indexer(pd.Index(different)), -1)[asked]
        order = np.lexsort((seconds, owners))
        ends = np.flatnonzero(np.diff(owners[order])) + 1
        remembered = self._remembered(np.unique(owners[owners >= 0]), types)
        found = np.full((len(sessions), len(history_columns(types))), np.nan)
        present = present_places(len(types))
        if asked_before is not None:
            asked_at = seconds - 60 * (asked_before + delay)
            presents(started_sessions(self._every, types), asked_at, seconds, population, found[:, present])
        for rows in np.split(order, ends) if len(order) else ():
            # `np.split` and `remembered` visit the owners in the same order, and each of these owners has a session.
            past = () if owners[rows[0]] < 0 else (session for _, session in next(remembered)[1])
            moments = seconds[rows].tolist()
            known = known_at(past, moments, population, len(types), asked_before or 0, delay)
            for row, values in zip(rows.tolist(), known, strict=True):
                found[row, : present.start] = values
        return found

    def _remembered(
        self, owners: np.ndarray, types: Sequence[str]
    ) -> Iterator[tuple[int, Iterator[tuple[int, PastSession]]]]:
        order = np.flatnonzero(np.isin(self._owners, owners))
        return groupby(sessions_in_order(self._sessions, self._owners, order, types), key=lambda pair: pair[0])


def sessions_in_order(
    frame: pd.DataFrame, drivers: np.ndarray, order: np.ndarray, types: Sequence[str]
) -> Iterator[tuple[int, PastSession]]:
    """Yield the code of the driver and the past session, for each place in `order`."""
    for start in range(0, len(order), _CHUNK):
        some = order[start : start + _CHUNK]
        yield from zip(drivers[some].tolist(), past_sessions(frame.iloc[some], types), strict=True)


def names_drivers(sessions: pd.DataFrame) -> bool:
    """Return whether any session names a driver."""
    return "user_id" in sessions and any(name is not None for name in driver_ids(sessions))


def driver_ids(frame: pd.DataFrame) -> np.ndarray:
    """Return the user of each session as serving reads it: a text, or None if the session names no user.

    Raises:
        ValueError: the column has floats. The text of 12.0 differs from 12, so the driver would count as new.
    """
    places, different = pd.factorize(frame["user_id"])
    if floats := [value for value in different if isinstance(value, float | np.floating)]:
        raise ValueError(f"user_id is the number {floats[0]}; convert it to the texts of the history")
    return np.array([*map(read_id, different), None], dtype=object)[places]


def wall_times(frame: pd.DataFrame, name: str = "charging_start_time") -> np.ndarray:
    """Return a column of wall times as datetime64[s], NaT where a time is missing.

    Texts such as 2026-03-02T18:30:00 are read too.

    Raises:
        ValueError: the column is absent, or a value is a number, not a time, or a time with a zone or an offset. Only
            the caller knows the drivers' time zone.
    """
    if name not in frame:
        raise ValueError(f"the frame has no column {name}")
    times = frame[name]
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        raise ValueError(  # noqa: TRY004 - the type of the frame is right
            f"{name} is in the time zone {times.dtype.tz}; give {_WALL_TIME}:"
            " times.dt.tz_convert(ZONE).dt.tz_localize(None)"
        )
    if not pd.api.types.is_datetime64_dtype(times.dtype):
        # Equal values are read once.
        places, different = pd.factorize(times)
        read = [_wall_time(value, name) for value in different]
        return np.array([*read, np.datetime64("NaT")], dtype="datetime64[s]")[places]
    return np.asarray(times.to_numpy(), dtype="datetime64[s]")


def past_of(  # noqa: PLR0913, PLR0917
    sessions: pd.DataFrame,
    past: Past | None,
    pasts: Pasts | None,
    types: Sequence[str],
    population: PopulationHistory,
    asked_before: int | None,
    delay: int,
) -> np.ndarray | None:
    """Return the history columns of n sessions, or None if all drivers are new. Warn if the history cannot be used.

    Args:
        sessions: n rows.
        past: the history columns that the caller gives; None if the caller gives none.
        pasts: the history from which they are computed otherwise; None without a history.
        types: the charger types of the model.
        population: the mix of all drivers.
        asked_before: as in `Pasts.known`.
        delay: as in `Pasts.known`.

    Raises:
        ValueError: the columns of `past` do not match the model, or the sessions name drivers and both `past` and
            `pasts` are None.
    """
    if past is not None:
        return check_past(past, len(sessions), types)
    if pasts is None:
        if names_drivers(sessions):
            raise ValueError(
                "the sessions name drivers (column user_id), but the past of these drivers is not given."
                " Pass history=zap.read_history(...), or bind it once: model.with_history(zap.read_history(...));"
                " clones and pickles of a bound model have no history."
                " To treat every driver as new, drop the column user_id."
            )
        return None
    for message in pasts.warnings(sessions, types):
        warn(message)
    return pasts.known(sessions, types, population, asked_before, delay)


def check_past(past: Past, n: int, types: Sequence[str]) -> np.ndarray:
    """Return the given history columns as an array, after a check against the model's types.

    Args:
        past: an array, or a DataFrame with the column names of `history_columns`.
        n: the number of sessions.
        types: the charger types of the model.

    Raises:
        ValueError: names the expected columns and the given columns.
    """
    expected = history_columns(types)
    if isinstance(past, pd.DataFrame) and (found := [str(name) for name in past]) != expected:
        gone, new = [name for name in expected if name not in found], [name for name in found if name not in expected]
        raise ValueError(
            f"the columns of past do not match this model's types ({', '.join(types)}):"
            f" past lacks the columns {_shown(gone)}, and has the unexpected columns {_shown(new)}"
            + " (the order differs)"
            * (not gone and not new)
        )
    values = np.asarray(past, dtype=np.float64)
    if values.shape != (n, len(expected)):
        per_type = len(history_columns(["one"])) - len(history_columns([]))
        of_types, rest = divmod(values.shape[-1] - len(history_columns([])), per_type)
        like = f", the columns of {of_types} charger types" if values.ndim == 2 and of_types > 0 and not rest else ""
        raise ValueError(
            f"past has the shape {values.shape}{like}; expected are {n} rows with the {len(expected)} columns of this"
            f" model's {len(types)} types ({', '.join(types)}): {_shown(expected)}."
            " history_matrix.past_features makes such a past; the result of past_matrix is for fit_in_place"
        )
    return values


def check_frame(frame: object, name: str) -> None:
    """Raise TypeError if a value is not a DataFrame.

    Args:
        frame: the value that a caller gave.
        name: its name in the error message.

    Raises:
        TypeError: names the given type and says what is needed.
    """
    if not isinstance(frame, pd.DataFrame):
        what = "None" if frame is None else f"a {type(frame).__name__}"
        raise TypeError(
            f"{name} is {what}, but a pandas DataFrame is needed; for a single session give pd.DataFrame([row])"
        )


def numbers(values: pd.Series) -> np.ndarray:
    """Return a column of numbers as float64, NaN where a value is missing.

    Raises:
        ValueError: names the column and a value that is not a number.
    """
    try:
        found: np.ndarray = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        wrong = next(value for value in values.dropna() if not _is_number(value))
        raise ValueError(
            f"{values.name} holds {wrong!r}, which is not a number; give numbers, and NaN where a value is missing"
        ) from error
    return found


def warn(message: str) -> None:
    """Issue a UserWarning that points to the first line outside of zap."""
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "zap":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True


def _check_single(history: pd.DataFrame) -> None:
    """Raise ValueError if a session appears more than once in a history.

    Raises:
        ValueError: names a repeated session.
    """
    if "session_id" not in history:
        return
    ids = history["session_id"]
    if (double := ids.duplicated() & ids.notna()).any():
        raise ValueError(
            f"the session_id {ids[double].iloc[0]} appears more than once in the history, and each row would count;"
            ' keep one: history.drop_duplicates("session_id")'
        )


def _wall_time(value: object, name: str) -> np.datetime64:
    """Return one value of a column of times, to the second.

    Raises:
        ValueError: the value is not a wall time; names the column and the value.
    """
    if isinstance(value, str):
        return _text_time(value, name)
    if isinstance(value, datetime | np.datetime64 | date):
        moment = pd.Timestamp(value)
        if moment.tzinfo is not None:
            raise ValueError(_has_offset(name, str(value)))
        found: np.datetime64 = moment.to_datetime64().astype("datetime64[s]")
        return found
    if isinstance(value, int | float | np.number):
        raise ValueError(  # noqa: TRY004 - the type of the frame is right
            f"{name} holds the number {value}, whose unit and time zone are not known; give {_WALL_TIME}:"
            " pd.to_datetime(times, unit=UNIT, utc=True).dt.tz_convert(ZONE).dt.tz_localize(None)"
        )
    raise ValueError(f"{name} holds {value!r}, which is not a time; give {_WALL_TIME}, as datetime64")


def _text_time(text: str, name: str) -> np.datetime64:
    if _OFFSET.fullmatch(text) and not _TEXT_TIME.fullmatch(text):
        raise ValueError(_has_offset(name, text))
    try:
        if not _TEXT_TIME.fullmatch(text):
            raise ValueError(text)
        return np.datetime64(datetime.fromisoformat(text.partition(".")[0]), "s")
    except ValueError as error:
        raise ValueError(
            f"{name} holds {text!r}, which is not a time; give {_WALL_TIME}, such as 2026-03-02T18:30:00:"
            " pd.to_datetime(times, format=...)"
        ) from error


def _has_offset(name: str, value: str) -> str:
    return (
        f"{name} holds {value}, a time with an offset; give {_WALL_TIME}:"
        " pd.to_datetime(times, utc=True).dt.tz_convert(ZONE).dt.tz_localize(None)"
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "none"
