"""A synthetic charging history whose best reachable scores are known.

The drivers, their vehicles and their habits are in `sample_drivers.py`, the days and the charges in `sample_days.py`,
and the stated model of each choice in `sample_choice.py`. So the best possible accuracy and log loss are known: the
scores of the true probabilities, given all that is known when a driver asks. `SampleHistory.reachable` returns them.
`reachable_without_habit` and `reachable_without_present` return the best scores without a part of this knowledge.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd

from zap.errors import InvalidSettings
from zap.ml.sample_choice import CLASSES, Choices, is_evening, quick_places
from zap.ml.sample_days import Sessions, draw_sessions
from zap.ml.sample_drivers import CITIES, HABITS, USER_TYPES, VEHICLES, Drivers, draw_drivers

# This is wall time, as in every history.
FIRST_DAY = datetime(2024, 1, 1)  # noqa: DTZ001
MOST_DRIVERS, MOST_MONTHS = 50_000, 120
# USD per kWh: at home, and elsewhere for each of CLASSES.
HOME_PRICE = 0.16
PRICES = np.array([0.52, 0.22, 0.32])
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIMES_OF_DAY = ("Night",) * 6 + ("Morning",) * 6 + ("Afternoon",) * 5 + ("Evening",) * 7


class Reachable(NamedTuple):
    """The scores of the best possible predictions: expected accuracy, and expected log loss in nats."""

    accuracy: float
    log_loss: float


@dataclass(frozen=True)
class SampleHistory:
    """A synthetic history, ready to be stored.

    Attributes:
        users: user_id, user_type.
        vehicles: user_id, vehicle_model, battery_capacity_kwh, vehicle_age_years; one vehicle for each driver.
        sessions: the columns of ChargingSessions without session_id, vehicle_id and timestamp, with user_type and the
            columns of `vehicles`, which do not change over time here; in order of start.
        choices: the values from which the type of each session was drawn.
        probabilities: the true probabilities of the types, of shape (sessions, CLASSES).
        classes: the types of the columns of `probabilities`.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame
    choices: Choices
    probabilities: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def reachable(self, rows: slice = slice(None)) -> Reachable:
        """Return the best scores that a model can reach on `rows`."""
        return _expected(self.probabilities[rows], self.probabilities[rows])

    def reachable_without_habit(self, rows: slice = slice(None)) -> Reachable:
        """Return the best scores that a model can reach on `rows` without knowledge of the driver's habit."""
        return _expected(self.choices.without_habit()[rows], self.probabilities[rows])

    def reachable_without_present(self, rows: slice = slice(None)) -> Reachable:
        """Return the best scores that a model can reach on `rows` without knowledge of the sessions that are open."""
        return _expected(self.choices.without_present()[rows], self.probabilities[rows])


def _expected(answer: np.ndarray, truth: np.ndarray) -> Reachable:
    rows = np.arange(len(truth))
    return Reachable(
        accuracy=float(truth[rows, answer.argmax(axis=1)].mean()),
        log_loss=float(-(truth * np.log(answer)).sum(axis=1).mean()),
    )


def sample_history(seed: int = 42, drivers: int = 400, months: int = 12) -> SampleHistory:
    """Make a synthetic history. Equal arguments give equal histories.

    Args:
        seed: the seed of the random numbers, not negative.
        drivers: the number of drivers, 1 to MOST_DRIVERS.
        months: the number of months, 1 to MOST_MONTHS.

    Raises:
        InvalidSettings: an argument is out of its range.
    """
    for name, value, most in (("drivers", drivers, MOST_DRIVERS), ("months", months, MOST_MONTHS)):
        if not 1 <= value <= most:
            raise InvalidSettings(f"{name} is {value}; must be 1 to {most:,}")
    if seed < 0:
        raise InvalidSettings(f"seed is {seed}; must not be negative")
    people = draw_drivers(seed, drivers)
    drawn = draw_sessions(people, seed, days=round(months * 30.4375))
    hour = (drawn.start % 86_400 // 3600).astype(np.int8)
    choices = Choices(drawn.situation, people.habit[drawn.driver], drawn.taken, hour, quick_places(drivers))
    user_type = _named([one.name for one in USER_TYPES], people.user_type)
    return SampleHistory(
        users=pd.DataFrame({"user_id": people.user_id, "user_type": user_type}),
        vehicles=pd.DataFrame(_vehicles(people)),
        sessions=pd.DataFrame(_columns(people, drawn, user_type)),
        choices=choices,
        probabilities=choices.true(),
    )


def _vehicles(people: Drivers) -> dict[str, np.ndarray]:
    return {
        "user_id": people.user_id,
        "vehicle_model": _named([one.model for one in VEHICLES], people.vehicle),
        "battery_capacity_kwh": people.vehicles("battery_kwh"),
        "vehicle_age_years": people.age_years,
    }


def _columns(people: Drivers, drawn: Sessions, user_type: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of the sessions."""
    hour = drawn.start % 86_400 // 3600
    city = people.city[drawn.driver]
    homes = np.array([CLASSES.index(habit.home) if habit.home in CLASSES else -1 for habit in HABITS])
    home = (drawn.charger_type == homes[people.habit[drawn.driver]]) & is_evening(hour)
    first = np.datetime64(FIRST_DAY, "us")
    return {
        **{name: values[drawn.driver] for name, values in _vehicles(people).items()},
        "user_type": user_type[drawn.driver],
        "charging_station_id": np.where(home, ("Home-" + people.user_id)[drawn.driver], _stations(city, drawn)),
        "charging_station_location": _named([one.name for one in CITIES], city),
        "charger_type": _named(CLASSES, drawn.charger_type),
        "charging_start_time": first + drawn.start.astype("timedelta64[s]"),
        "charging_end_time": first + drawn.end.astype("timedelta64[s]"),
        "energy_consumed_kwh": drawn.kwh,
        "charging_duration_hours": drawn.hours,
        "charging_rate_kw": drawn.kw,
        "charging_cost_usd": (drawn.kwh * np.where(home, HOME_PRICE, PRICES[drawn.charger_type])).round(2),
        "time_of_day": _named(_TIMES_OF_DAY, hour),
        "day_of_week": _named(_DAYS, (drawn.start // 86_400 + FIRST_DAY.weekday()) % len(_DAYS)),
        "state_of_charge_start": drawn.charge,
        "state_of_charge_end": drawn.end_charge,
        "distance_driven_km": drawn.driven,
        "temperature_c": drawn.temperature,
    }


def _stations(city: np.ndarray, drawn: Sessions) -> np.ndarray:
    """Return the ids of public stations, such as `Los-Angeles-2-24`."""
    most = int(drawn.station.max(initial=0)) + 1
    ids = [
        f"{one.name}-{name.split()[-1]}-{number:02d}".replace(" ", "-")
        for one in CITIES
        for name in CLASSES
        for number in range(most)
    ]
    return _named(ids, (city * len(CLASSES) + drawn.charger_type) * most + drawn.station)


def _named(names: list[str] | tuple[str, ...], places: np.ndarray) -> np.ndarray:
    """Return the names at places. Equal names are one Python object."""
    named: np.ndarray = np.array(names, dtype=object)[places]
    return named
