"""What the monitors of version 1 remember after weeks: drift, harm, and the counts of each day."""

from datetime import timedelta

import numpy as np

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.data_quality_days import REFUSED, REQUESTS, SESSIONS, apply
from zap.db.monitoring.monitor_states import Remembered, store_monitor
from zap.db.tables import utc_now
from zap.monitoring.drift import DriftDetector
from zap.monitoring.drift_state import DriftState, Week
from zap.monitoring.harm import HarmState, HarmWatch, Window
from zap.monitoring.reference import reference_of

DRIVERS, JUDGED = 400, 12
# The first judged week, from Monday, 2026-01-05, and its day.
FIRST_WEEK, FIRST_DAY = 2923, 20_458
TODAY = utc_now().date()


def watched(changed_from=JUDGED - 3):
    """Return the reference and the state of drift: the temperature changes in the last weeks."""
    random = np.random.default_rng(1)
    weeks = np.repeat(np.arange(20), DRIVERS)
    columns = {
        "temperature_c": random.normal(10, 5, len(weeks)),
        "user_type": random.choice(["Commuter", "Traveler"], len(weeks)).tolist(),
    }
    reference = reference_of(columns, np.tile(np.arange(DRIVERS), 20), weeks)
    detector = DriftDetector(reference, DriftState.beginning(FIRST_WEEK - 1))
    usual = {feature.name: [80] * len(feature.counts) + [0] for feature in reference.features}
    for week in range(JUDGED):
        counts = {**usual, "user_type": [200, 200, 0, 0]}
        if week >= changed_from:
            counts["temperature_c"] = [10, 20, 30, 60, 280, 0]
        detector.add_week(Week(FIRST_WEEK + week, list(range(DRIVERS)), counts))
    return reference, detector.state


def guarded_version(days=100):
    """Return the state of harm after some days without harm."""
    watch = HarmWatch({7: 0.25, 28: 0.25, 91: 0.25}, HarmState.beginning(FIRST_DAY))
    for day in range(FIRST_DAY, FIRST_DAY + days):
        window = Window(np.linspace(0.0, 0.4, 200), np.linspace(-0.3, 0.1, 200))
        watch.add_day(day, dict.fromkeys((7, 28, 91), window))
    return watch.state


def monitor(engine):
    """Store what the monitors of version 1 remember, and the alarm of drift."""
    reference, state = watched()
    harm = {"limits": {"7": 0.25}, "baseline": "driver_share", "mix": [], "exponents": []}
    with write_transaction(engine) as connection:
        drift = {"features": reference.to_plain()}
        store_monitor(connection, 1, "drift", Remembered(drift, state.to_plain(), 5))
        watch = {"watch": guarded_version().to_plain(), "days": {}}
        store_monitor(connection, 1, "harm", Remembered(harm, watch))
        raise_alarm(connection, "drift", "version 1", "The requests are not like the training rows.", {}, posts=False)


def count_quality(engine):
    """Count what was found in 40 days."""
    with write_transaction(engine) as connection:
        for back in range(40):
            day = TODAY - timedelta(days=back)
            found = {
                ("", "answered"): 1000,
                ("", "completed"): 200,
                ("vehicle_model", "unknown"): 50,
                ("user_id", "missing"): 100,
                ("user_id", "unknown"): 90,
                ("temperature_c", "null"): 300 if back == 3 else 10,
            }
            apply(connection, REQUESTS, {day: found})
            apply(connection, REFUSED, {day: {("", "refused"): 25, ("distance_driven_km", "out_of_range"): 20}})
            apply(connection, SESSIONS, {day: {("", "added"): 7, ("", "ended"): 6, ("temperature_c", "missing"): 3}})
