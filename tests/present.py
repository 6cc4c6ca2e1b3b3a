"""Compute the present of a session in a window of its own, as a reference, or read it as a server does."""

from types import SimpleNamespace

import numpy as np

from zap.db.history.recent_sessions import RecentSessions
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.history import started_sessions
from zap.ml.population_now import DAYS_BEFORE, PopulationNow, Present


def present_before(frame, types, population, start, asked_before=15):
    """Return the present at the moment of asking for a session that starts at `start`, in seconds since 1970-01-01.

    Sessions that start later than this moment are left out, so the values cannot depend on them.
    """
    moment, every = start - 60 * asked_before, started_sessions(frame, types)
    now = PopulationNow(moment // DAY - DAYS_BEFORE, DAYS_BEFORE + 1, len(types))
    now.observe(every.some(every.starts < moment))
    mix = population.mix(moment)
    return Present(moment, now.columns(np.array([moment]), np.array([start]), np.array([mix]))[0].tolist())


def presents_read(engine, sessions, types, population, asked_before=15):
    """Return the values of the present of cleaned sessions as a server reads them: half of them from memory."""
    starts = [to_seconds(start.to_pydatetime()) for start in sessions["charging_start_time"]]
    # A server needs a version only for these values.
    asked = SimpleNamespace(asked_before=asked_before, types=tuple(types), population=population, model_version=1)
    middle = sessions["charging_start_time"].iloc[len(sessions) // 2].to_pydatetime()
    recent = RecentSessions(engine, lambda: middle)
    found = recent.presents(starts, [start - 60 * asked_before for start in starts], asked)
    recent.close()
    return [present[1] for present in found]
