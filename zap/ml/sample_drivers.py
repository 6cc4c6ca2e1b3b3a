"""The drivers of the synthetic history: their vehicles, user types, cities and habits."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from zap.ml.features import SAMPLE_USER_PREFIX


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
HASTES = {-0.5: 0.5, 0.5: 0.5}
HABITS = tuple(Habit(home, haste) for home, haste in product(HOMES, HASTES))
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


@dataclass(frozen=True)
class Drivers:
    """The drivers of a history. Each array has one value for each driver.

    Attributes:
        user_id: the ids, as objects.
        user_type: the places in USER_TYPES.
        vehicle: the places in VEHICLES.
        city: the places in CITIES.
        habit: the places in HABITS.
        age_years: the ages of the vehicles.
        charge: the charge of the batteries in % at the beginning of the history.
    """

    user_id: np.ndarray
    user_type: np.ndarray
    vehicle: np.ndarray
    city: np.ndarray
    habit: np.ndarray
    age_years: np.ndarray
    charge: np.ndarray

    def __len__(self) -> int:
        return len(self.user_id)

    def vehicles(self, attribute: str) -> np.ndarray:
        """Return an attribute of Vehicle for each driver."""
        return _attribute(VEHICLES, attribute, self.vehicle)

    def user_types(self, attribute: str) -> np.ndarray:
        """Return an attribute of UserType for each driver."""
        return _attribute(USER_TYPES, attribute, self.user_type)

    def cities(self, attribute: str) -> np.ndarray:
        """Return an attribute of City for each driver."""
        return _attribute(CITIES, attribute, self.city)


def _attribute(catalogue: tuple[NamedTuple, ...], attribute: str, places: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.array([getattr(one, attribute) for one in catalogue])[places]
    return values


def draw_drivers(seed: int, drivers: int) -> Drivers:
    """Draw drivers. All histories of a seed begin with equal drivers."""
    rows = []
    for number in range(drivers):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))
        rows.append(
            (
                random.choice(len(USER_TYPES), p=[one.share for one in USER_TYPES]),
                random.integers(len(VEHICLES)),
                random.integers(len(CITIES)),
                random.choice(len(HABITS), p=HABIT_SHARES),
                # The age is in whole years, and the battery size is from the catalogue: a vehicle must not identify its
                # driver.
                random.integers(0, 8),
                random.uniform(40, 90),
            )
        )
    user_type, vehicle, city, habit, age_years, charge = (np.array(column) for column in zip(*rows, strict=True))
    ids = np.array([f"{SAMPLE_USER_PREFIX}{seed}-{number:05d}" for number in range(drivers)], dtype=object)
    return Drivers(ids, user_type, vehicle, city, habit, age_years.astype(float), charge)
