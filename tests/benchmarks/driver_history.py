"""How long the drivers' pasts take: in a training beside LightGBM's own fit, and for one request.

    python tests/benchmarks/driver_history.py --sessions 1000000 --drivers 50000

Prints one JSON document. Times are of this machine and this run; what can be compared elsewhere are the ratios.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

# As zap itself sets it, before LightGBM is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import lightgbm
import numpy as np
import pandas as pd
from sqlalchemy import insert

from zap.db.engine import create_engine, write_transaction
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.history_rows import SESSIONS
from zap.db.schema import upgrade
from zap.ml.boosting import boost
from zap.ml.driver_columns import DAY
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.population_history import PopulationHistory

TYPES = ("DC Fast Charger", "Level 1", "Level 2")
START = np.datetime64("2025-01-01T00:00:00", "s")


def made_up(sessions, drivers):
    """Cleaned sessions of a year in time order, of drivers who each have a favourite type."""
    random = np.random.default_rng(42)
    driver = random.integers(drivers, size=sessions)
    kind = np.where(random.random(sessions) < 0.7, driver % len(TYPES), random.integers(len(TYPES), size=sessions))
    start = START + np.sort(random.integers(365 * DAY, size=sessions)).astype("timedelta64[s]")
    hours = random.uniform(0.2, 9, sessions)
    return pd.DataFrame(
        {
            "session_id": np.arange(sessions),
            "user_id": pd.Series(driver).map(lambda number: f"User_{number}"),
            "charger_type": np.array(TYPES, dtype=object)[kind],
            "charging_start_time": start,
            "charging_end_time": start + (hours * 3600).astype("timedelta64[s]"),
            "energy_consumed_kwh": random.uniform(2, 80, sessions),
            "charging_duration_hours": hours,
            "state_of_charge_start": random.uniform(0, 100, sessions),
            "distance_driven_km": random.uniform(0, 400, sessions),
            "temperature_c": random.uniform(-10, 35, sessions),
            "battery_capacity_kwh": random.choice([40.0, 64.0, 77.0], sessions),
            "vehicle_age_years": random.uniform(0, 9, sessions),
            "user_type": random.choice(["Commuter", "Tourist"], sessions),
            "vehicle_model": random.choice(["Leaf", "Kona", "ID.3"], sessions),
        }
    )


def in_training(frame, rounds):
    """Seconds of one pass over the history, and of LightGBM's fit on the ready matrix with as many threads as cores."""
    begin = time.perf_counter()
    past = past_features(frame, TYPES, mix_of(frame, TYPES))
    walked = time.perf_counter() - begin
    model = ChargerTypeModel(n_estimators=rounds, n_jobs=os.cpu_count() or 1)
    matrix, codes = model.prepare(frame, frame["charger_type"], past=past)
    begin = time.perf_counter()
    boost(model.get_params(), matrix, codes, len(TYPES))[0]
    fitted = time.perf_counter() - begin
    return {
        "sessions": len(frame),
        "drivers": int(frame["user_id"].nunique()),
        "pass_seconds": round(walked, 2),
        "sessions_per_second_on_one_core": round(len(frame) / walked),
        "fit_seconds": round(fitted, 2),
        "fit_rounds": rounds,
        "fit_threads": model.n_jobs,
        "pass_over_fit": round(walked / fitted, 4),
    }


def in_serving(frame, folder, requests=5000):
    """Microseconds for what is known of a driver: from memory, and where the database has to be asked."""
    url = f"sqlite:///{folder / 'zap.sqlite'}"
    upgrade(url)
    engine = create_engine(url)
    users = frame["user_id"].unique()[:200]
    rows = frame[frame["user_id"].isin(users)]
    columns = [name for name in rows if name in SESSIONS.c]
    with write_transaction(engine) as connection:
        connection.execute(
            insert(SESSIONS),
            [
                {
                    name: value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
                    for name, value in row.items()
                }
                for row in rows[columns].to_dict("records")
            ],
        )
    histories = DriverHistories(engine)
    at = int(START.astype(np.int64)) + 366 * DAY
    mix = PopulationHistory({}, len(TYPES)).mix(at)
    asked, remembered = [], []
    for number in range(requests):
        user = users[number % len(users)]
        begin = time.perf_counter()
        known = histories.known(user, at, TYPES)
        if known is None:
            known = histories.read(user, at, TYPES)
            known.features(at, mix)
            asked.append(time.perf_counter() - begin)
        else:
            known.features(at, mix)
            remembered.append(time.perf_counter() - begin)
    engine.dispose()
    return {
        "from_memory_us": round(statistics.median(remembered) * 1e6, 1),
        "from_the_database_us": round(statistics.median(asked) * 1e6, 1),
        "sessions_of_a_driver": round(len(rows) / len(users), 1),
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sessions", type=int, default=1_000_000)
    options.add_argument("--drivers", type=int, default=50_000)
    options.add_argument("--rounds", type=int, default=200, help="boosting rounds of the fit to compare with")
    chosen = options.parse_args()
    frame = made_up(chosen.sessions, chosen.drivers)
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "training": in_training(frame, chosen.rounds),
            "serving": in_serving(frame, Path(folder)),
            "python": platform.python_version(),
            "lightgbm": lightgbm.__version__,
            "cores": os.cpu_count(),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
