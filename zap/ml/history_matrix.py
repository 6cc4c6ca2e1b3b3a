"""The history columns of cleaned sessions: the past of each driver and the present, as known when the driver asked."""

from collections.abc import Sequence
from itertools import groupby
from struct import Struct

import numpy as np
import pandas as pd

from zap.ml.boosting import BoostingProgress
from zap.ml.driver_codes import driver_codes
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import population_history, started_sessions
from zap.ml.history_columns import history_columns, present_places
from zap.ml.history_walk import walk
from zap.ml.pasts import sessions_in_order
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import ASKED_BEFORE_MINUTES
from zap.ml.presents import presents

# How many sessions are processed between two reports of progress.
_CHUNK = 50_000


def mix_of(frame: pd.DataFrame, types: Sequence[str]) -> PopulationHistory:
    """Return the daily mixes of cleaned training sessions. A model keeps these mixes unchanged."""
    return population_history(frame["charging_start_time"].to_numpy(), frame["charger_type"], types)


def past_features(
    frame: pd.DataFrame,
    types: Sequence[str],
    population: PopulationHistory,
    asked_before: int | None = ASKED_BEFORE_MINUTES,
    delay: int = 0,
) -> np.ndarray:
    """Return the history columns of each session: the past when it started, and the present when its driver asked.

    Args:
        frame: cleaned sessions in time order.
        types: the learned charger types.
        population: the mix of all drivers, `mix_of(training sessions, types)`.
        asked_before: as in `past_matrix`.
        delay: as in `past_matrix`.

    Returns:
        float64 of shape (len(frame), len(history_columns(types))). A session without a user has an empty past.
    """
    return history_part(past_matrix(frame, types, population, asked_before=asked_before, delay=delay))


def past_matrix(  # noqa: PLR0913
    frame: pd.DataFrame,
    types: Sequence[str],
    population: PopulationHistory,
    progress: BoostingProgress | None = None,
    *,
    places: np.ndarray | None = None,
    asked_before: int | None = ASKED_BEFORE_MINUTES,
    delay: int = 0,
) -> np.ndarray:
    """Return a matrix with empty columns for MATRIX_COLUMNS, followed by the history columns of each session.

    A fit writes MATRIX_COLUMNS into the empty columns. With a million rows, a copy of the history columns would take a
    third of all memory.

    Args:
        frame: cleaned sessions in time order.
        types: the learned charger types.
        population: the mix of all drivers, `mix_of(training sessions, types)`.
        progress: called with the number of finished sessions, and the number of all sessions.
        places: the places of the sessions that get a row, in order; by default all. The other sessions are only part of
            the pasts, and of the present.
        asked_before: how many minutes before the start of a session its driver asks. With None the columns of the
            present are missing: versions of an earlier zap know no present.
        delay: how many minutes after their start sessions are stored.

    Returns:
        float64 of shape (rows, len(MATRIX_COLUMNS) + len(history_columns(types))). The first len(MATRIX_COLUMNS)
        columns are not initialised.
    """
    n_rows = len(frame) if places is None else len(places)
    matrix = np.empty((n_rows, len(MATRIX_COLUMNS) + len(history_columns(types))))
    past, present = history_part(matrix), present_places(len(types))
    drivers = driver_codes(frame)
    # The sessions are visited driver by driver, in time order, so one state is enough.
    order = np.argsort(drivers, kind="stable")
    rows = (row for start in range(0, len(order), _CHUNK) for row in _rows_at(order[start : start + _CHUNK], places))
    # Packing a row into the matrix takes half the time of assigning a list to it.
    row_of_past, rows_bytes = Struct(f"{present.start}d"), matrix.reshape(-1).view(np.uint8).data
    first, width = matrix.itemsize * len(MATRIX_COLUMNS), matrix.strides[0]
    done = 0
    for _, sessions in groupby(sessions_in_order(frame, drivers, order, types), key=lambda pair: pair[0]):
        for values in walk((session for _, session in sessions), population, len(types), asked_before or 0, delay):
            row = next(rows)
            if row >= 0:
                row_of_past.pack_into(rows_bytes, row * width + first, *values)
            done += 1
            if progress and done % _CHUNK == 0:
                progress(done, len(frame))
    fill_present(past[:, present], frame, types, population, places, asked_before, delay)
    if progress:
        progress(len(frame), len(frame))
    return matrix


def fill_present(  # noqa: PLR0913, PLR0917
    out: np.ndarray,
    frame: pd.DataFrame,
    types: Sequence[str],
    population: PopulationHistory,
    places: np.ndarray | None,
    asked_before: int | None,
    delay: int,
) -> None:
    """Write the columns of the present of each session into `out`; `past_matrix` explains the arguments."""
    if asked_before is None:
        out[:] = np.nan
        return
    starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]").astype(np.int64)
    asked = starts if places is None else starts[places]
    presents(started_sessions(frame, types), asked - 60 * (asked_before + delay), asked, population, out)


def history_part(matrix: np.ndarray) -> np.ndarray:
    """Return the history columns of a matrix."""
    return matrix[:, len(MATRIX_COLUMNS) :]


def _rows_at(some: np.ndarray, places: np.ndarray | None) -> list[int]:
    """Return the rows of the sessions at these places, -1 for a session without a row."""
    if places is not None:
        found = np.minimum(np.searchsorted(places, some), len(places) - 1)
        some = np.where(places[found] == some, found, -1)
    rows: list[int] = some.tolist()
    return rows
