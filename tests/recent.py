"""The present of recent sessions in tests: sessions that any program adds, and what a training computes of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import text

from zap.db.history.history_store import read_history
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.history import clean_history, started_sessions
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import PRESENT_COLUMNS
from zap.ml.presents import presents

# The triggers compare with the real day.
NOW = datetime.now(UTC).replace(tzinfo=None, hour=12, minute=34, second=56, microsecond=0)
TODAY = to_seconds(NOW) // DAY
TYPES = ("B", "A", "Level 2")
POPULATION = PopulationHistory({TODAY - 200: [3, 1, 2], TODAY - 30: [1, 5, 0], TODAY - 1: [0, 2, 9]}, len(TYPES))


@dataclass(frozen=True)
class Version:
    """Stand in for a Predictor: RecentSessions reads these four attributes."""

    types: tuple[str, ...] = TYPES
    model_version: int = 1
    asked_before: int | None = 15
    population: PopulationHistory = POPULATION


@dataclass
class Clock:
    now: datetime = field(default=NOW)

    def __call__(self):
        return self.now


def run(engine, *statements):
    """Run SQL as another program would."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def literal(value):
    if isinstance(value, bytes):
        # A text that is not UTF-8.
        return f"CAST(x'{value.hex()}' AS TEXT)"
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else repr(value)


def add(engine, *rows):
    """Add sessions: type, start, end, duration and user of each."""
    names = "charger_type, charging_start_time, charging_end_time, charging_duration_hours, user_id"
    rows = [f"({', '.join(map(literal, (*row, *[None] * (5 - len(row)))))})" for row in rows]
    for place in range(0, len(rows), 100):
        # The texts may contain what looks like a parameter.
        values = ", ".join(rows[place : place + 100]).replace(":", "\\:")
        run(engine, f'INSERT INTO "ChargingSessions" ({names}) VALUES {values}')


def trained(engine, starts, moments, version):
    """Return the values that a training computes."""
    sessions = started_sessions(clean_history(read_history(engine)).frame, version.types)
    out = np.empty((len(moments), len(PRESENT_COLUMNS) * len(version.types)))
    presents(sessions, np.array(moments), np.array(starts), version.population, out)
    return out


def at_day(hours):
    """Return a time of today."""
    return str(datetime.combine(NOW, datetime.min.time()) + timedelta(hours=hours))


def values(found):
    return np.array([one.values for one in found])


def same(found, expected):
    return values(found).tobytes() == np.asarray(expected).tobytes()


def moments_around(random, n, first=-110.0, last=1.4):
    """Return n moments of asking, by days before and after NOW, and starts that are not before them."""
    moments = to_seconds(NOW) + (random.uniform(first, last, n) * DAY).astype(np.int64)
    return (moments + random.integers(0, 40 * DAY, n)).tolist(), moments.tolist()
