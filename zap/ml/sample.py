"""A synthetic charging history whose best reachable scores are known.

Every charger type is drawn from a random-utility model, McFadden's conditional logit ("Conditional logit analysis of
qualitative choice behavior", 1974): a driver takes the type j with the largest U_j = V_j + e_j, the e_j independent
standard Gumbel, so that P(j) = exp(V_j) / sum_k exp(V_k). The V_j (see `_probabilities`) depend on what is known before
a session (charge, distance, temperature, hour, vehicle, user type) and on the driver's habit: the charger at home, and
the worth of a quick charge to this driver. No column holds the habit: a model can learn it only from the driver's
earlier sessions.

So the best possible accuracy and log loss are known: the scores of the true P(j). `reachable` returns them, and
`reachable_without_habit` returns the best scores without knowledge of the habit.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap.errors import InvalidSettings
from zap.ml.features import SAMPLE_USER_PREFIX

CLASSES = ("DC Fast Charger", "Level 1", "Level 2")
# This is wall time, as in every history.
FIRST_DAY = datetime(2024, 1, 1)  # noqa: DTZ001
MOST_DRIVERS, MOST_MONTHS = 50_000, 120


class Vehicle(NamedTuple):
    """A vehicle on the market: usable battery in kWh, largest AC power and largest DC power in kW."""

    model: str
    battery_kwh: float
    ac_kw: float
    dc_kw: float


VEHICLES = (
    Vehicle("Nissan LEAF", 39.0, 6.6, 46.0),
    Vehicle("BMW i3", 37.9, 11.0, 49.0),
    Vehicle("Chevrolet Bolt EV", 65.0, 7.2, 55.0),
    Vehicle("Hyundai Kona Electric", 64.0, 10.5, 77.0),
    Vehicle("Volkswagen ID.4", 77.0, 11.0, 135.0),
    Vehicle("Tesla Model 3", 57.5, 11.0, 170.0),
    Vehicle("Kia EV6", 74.0, 10.5, 233.0),
    Vehicle("Tesla Model Y", 75.0, 11.0, 250.0),
)


class UserType(NamedTuple):
    """A user type: its share of the drivers, km on an ordinary day, the chance of a trip on a day, km of a trip."""

    name: str
    share: float
    daily_km: float
    trip_chance: float
    trip_km: float


USER_TYPES = (
    UserType("Casual Driver", 0.35, 30.0, 0.10, 170.0),
    UserType("Commuter", 0.40, 50.0, 0.08, 190.0),
    UserType("Long-Distance Traveler", 0.25, 45.0, 0.25, 230.0),
)


class Habit(NamedTuple):
    """The habit of a driver: the charger at home, and the worth of a quick charge (in utility)."""

    home: str
    haste: float


# The home charger and the haste are drawn independently of each other and of all other values.
HOMES = {"Level 2": 0.40, "Level 1": 0.36, "none": 0.24}
HASTES = {-0.8: 0.5, 0.8: 0.5}
HABITS = tuple(Habit(home, haste) for home, haste in product(HOMES, HASTES))
# The utility that a habit adds to each of CLASSES.
_HABIT_TERMS = np.array(
    [
        [
            habit.haste,
            2.6 * (habit.home == "Level 1") - (habit.home == "none"),
            2.4 * (habit.home == "Level 2"),
        ]
        for habit in HABITS
    ]
)
HABIT_SHARES = np.array([HOMES[habit.home] * HASTES[habit.haste] for habit in HABITS])


class City(NamedTuple):
    """A city where drivers live: its mean temperature and the yearly swing in °C."""

    name: str
    mean_c: float
    swing_c: float


CITIES = (
    City("Houston", 21.0, 9.0),
    City("San Francisco", 14.5, 3.5),
    City("Los Angeles", 18.5, 4.5),
    City("Chicago", 10.5, 14.0),
    City("New York", 12.5, 12.5),
)
# USD per kWh.
PRICES = {"home": 0.16, "Level 1": 0.22, "Level 2": 0.32, "DC Fast Charger": 0.52}
LEVEL_1_KW, LEVEL_2_KW = 1.4, 11.0
# The share of the drawn energy that reaches the battery.
EFFICIENCY = 0.92
MISSING_SHARE = 0.01


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
        probabilities: the true probabilities of the types, of shape (sessions, CLASSES).
        probabilities_without_habit: the probabilities without knowledge of the habit, of the same shape.
        classes: the types of the columns of both arrays.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame
    probabilities: np.ndarray
    probabilities_without_habit: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def reachable(self, rows: slice = slice(None)) -> Reachable:
        """Return the best scores that a model can reach on `rows`."""
        return _expected(self.probabilities[rows], self.probabilities[rows])

    def reachable_without_habit(self, rows: slice = slice(None)) -> Reachable:
        """Return the best scores that a model can reach on `rows` without knowledge of the driver's habit."""
        return _expected(self.probabilities_without_habit[rows], self.probabilities[rows])


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
    people = [_Driver(seed, number) for number in range(drivers)]
    rows = pd.DataFrame([row for person in people for row in person.sessions(days=round(months * 30.4375))])
    # Sort by start; sessions with equal starts stay in the order of the drivers.
    rows = rows.sort_values("charging_start_time", kind="stable", ignore_index=True)
    return SampleHistory(
        users=pd.DataFrame({"user_id": [p.user_id for p in people], "user_type": [p.user_type.name for p in people]}),
        vehicles=pd.DataFrame([person.vehicle_row() for person in people]),
        sessions=rows.drop(columns=["p", "p_without_habit"]),
        probabilities=np.stack(rows["p"].to_list()),
        probabilities_without_habit=np.stack(rows["p_without_habit"].to_list()),
    )


class _Driver:
    """One driver, with a random generator of its own."""

    def __init__(self, seed: int, number: int) -> None:
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))
        self.user_id = f"{SAMPLE_USER_PREFIX}{seed}-{number:05d}"
        self.user_type = USER_TYPES[self.random.choice(len(USER_TYPES), p=[one.share for one in USER_TYPES])]
        self.vehicle = VEHICLES[self.random.integers(len(VEHICLES))]
        self.city = CITIES[self.random.integers(len(CITIES))]
        self.habit = int(self.random.choice(len(HABITS), p=HABIT_SHARES))
        # The age is in whole years, and the battery size is from the catalogue: a vehicle must not identify its driver.
        self.age_years = float(self.random.integers(0, 8))

    def vehicle_row(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "vehicle_model": self.vehicle.model,
            "battery_capacity_kwh": self.vehicle.battery_kwh,
            "vehicle_age_years": self.age_years,
        }

    def sessions(self, days: int) -> list[dict[str, Any]]:
        """Return the driver's sessions: each day the driver drives, and charges if the battery is low enough."""
        random, rows = self.random, []
        trips = random.random(days) < self.user_type.trip_chance
        distances = random.gamma(4, np.where(trips, self.user_type.trip_km, self.user_type.daily_km) / 4)
        by_day = trips | (random.random(days) < 0.35)
        hours = np.clip(np.where(by_day, random.normal(14, 3, days), random.normal(20, 1.5, days)), 6, 23.5)
        temperatures = self._temperatures(days)
        # Heating and cold batteries: about a third more at -10 °C than at 20 °C.
        percent_per_km = 16.5 / self.vehicle.battery_kwh * (1 + 0.011 * np.maximum(0.0, 20 - temperatures))
        patience = random.random(days)
        charge, driven, free_from = float(random.uniform(40, 90)), 0.0, FIRST_DAY
        for day in range(days):
            # A trip ends when the battery is at 5 %.
            km = min(float(distances[day]), max(0.0, charge - 5) / percent_per_km[day])
            charge -= km * percent_per_km[day]
            driven += km
            if patience[day] > 0.04 + 0.96 / (1 + math.exp((charge - 38) / 9)):
                continue
            start = max(FIRST_DAY + timedelta(days=day, hours=float(hours[day])), free_from).replace(microsecond=0)
            row = self._session(start, round(charge, 1), round(driven, 1), round(float(temperatures[day]), 1))
            rows.append(row)
            charge, driven = row["state_of_charge_end"], 0.0
            free_from = row["charging_end_time"] + timedelta(minutes=30)
            self._lose_values(row)
        return rows

    def _temperatures(self, days: int) -> np.ndarray:
        """Return the °C of each day: the season of the city, coldest in the middle of January, plus random weather."""
        season = -np.cos((np.arange(days) - 15) / 365.25 * 2 * np.pi)
        return np.clip(self.city.mean_c + self.city.swing_c * season + self.random.normal(0, 4, days), -30, 45)

    def _session(self, start: datetime, charge: float, driven: float, temperature: float) -> dict[str, Any]:
        by_habit = _probabilities(charge, driven, temperature, start.hour, self.vehicle, self.user_type)
        p = by_habit[self.habit]
        charger_type = CLASSES[int(np.searchsorted(p.cumsum()[:-1], self.random.random(), side="right"))]
        home = charger_type == HABITS[self.habit].home and _is_evening(start.hour)
        end_charge, kwh, hours, kw = self._charge(charger_type, charge)
        station = f"{self.city.name}-{charger_type.split()[-1]}-{self.random.integers(1, 40):02d}"
        return {
            **self.vehicle_row(),
            "user_type": self.user_type.name,
            "charging_station_id": f"Home-{self.user_id}" if home else station.replace(" ", "-"),
            "charging_station_location": self.city.name,
            "charger_type": charger_type,
            "charging_start_time": start,
            "charging_end_time": (start + timedelta(hours=hours)).replace(microsecond=0),
            "energy_consumed_kwh": kwh,
            "charging_duration_hours": hours,
            "charging_rate_kw": kw,
            "charging_cost_usd": round(kwh * PRICES["home" if home else charger_type], 2),
            "time_of_day": _time_of_day(start.hour),
            "day_of_week": start.strftime("%A"),
            "state_of_charge_start": charge,
            "state_of_charge_end": end_charge,
            "distance_driven_km": driven,
            "temperature_c": temperature,
            "p": p,
            "p_without_habit": HABIT_SHARES @ by_habit,
        }

    def _charge(self, charger_type: str, charge: float) -> tuple[float, float, float, float]:
        """Return the charge at the end in %, the energy in kWh, the hours, and the mean power in kW."""
        if charger_type == "DC Fast Charger":
            # A fast charge slows down well before the battery is full: its mean power is about 60 % of the limit.
            kw, target, longest = 0.6 * self.vehicle.dc_kw, self.random.uniform(70, 90), 1.5
        elif charger_type == "Level 2":
            kw, target, longest = min(LEVEL_2_KW, self.vehicle.ac_kw), self.random.uniform(80, 100), 9.0
        else:
            kw, target, longest = LEVEL_1_KW, self.random.uniform(85, 100), 12.0
        wanted = max(target, charge + 1) - charge
        kwh = min(wanted / 100 * self.vehicle.battery_kwh / EFFICIENCY, kw * longest)
        end_charge = min(100.0, charge + kwh * EFFICIENCY / self.vehicle.battery_kwh * 100)
        return round(end_charge, 1), round(kwh, 3), kwh / kw, kw

    def _lose_values(self, row: dict[str, Any]) -> None:
        """Remove a few values of the row, because sensors in real histories fail sometimes."""
        for name in ("distance_driven_km", "temperature_c"):
            if self.random.random() < MISSING_SHARE:
                row[name] = None


def _probabilities(  # noqa: PLR0913, PLR0917 - all inputs of the choice
    charge: float, driven: float, temperature: float, hour: int, vehicle: Vehicle, user_type: UserType
) -> np.ndarray:
    """Return P(j) for each of HABITS, of shape (habits, CLASSES): U_j = V_j + Gumbel, where V_j is a sum of terms."""
    evening = _is_evening(hour)
    low = (45 - charge) / 20
    far = math.tanh((driven - 140) / 50)
    travels = user_type.name == "Long-Distance Traveler"
    cold = max(0.0, 10 - temperature) / 20
    quick = math.log(vehicle.dc_kw / 100)
    fast = -1.0 + 3.2 * far + 1.3 * low + 0.4 * travels + 0.4 * quick - 0.5 * cold - 1.8 * evening
    weights = np.exp(np.array([fast, -0.2 - 2.4 * low, 0.6]) + _HABIT_TERMS)
    p: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return p


def _is_evening(hour: int) -> bool:
    return hour >= 18 or hour < 6


def _time_of_day(hour: int) -> str:
    return "Night" if hour < 6 else "Morning" if hour < 12 else "Afternoon" if hour < 17 else "Evening"
