"""What all drivers do before one session, counted in a window of its own, as a plain reference for tests."""

import numpy as np

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
