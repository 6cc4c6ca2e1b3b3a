"""The days of the synthetic history: when drivers charge, and what a charge gives.

The days are drawn in order, and the sessions of a day in order of start, because a driver sees the quick charges of
other drivers. A driver looks some minutes before plug-in. So all sessions that start within these minutes are drawn at
once, because none of their drivers can see another of these sessions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from zap.ml.sample_choice import (
    ASKED_BEFORE_MINUTES,
    HABIT_TERMS,
    QUICK,
    Situations,
    present_terms,
    probabilities,
    quick_places,
    situation_terms,
)
from zap.ml.sample_drivers import Drivers

LEVEL_1_KW, LEVEL_2_KW = 1.4, 11.0
# The share of the drawn energy that reaches the battery.
EFFICIENCY = 0.92
MISSING_SHARE = 0.01
# The longest charge of each of CLASSES in hours, and the two charges in % between which the charge at the end is drawn.
LONGEST = np.array([1.5, 12.0, 9.0])
TARGETS = np.array([[70.0, 90.0], [85.0, 100.0], [80.0, 100.0]])
STATIONS = 39
# The earliest and the latest hour of an arrival. If the driver's last session has just ended, the next session starts
# later than the arrival, but before the latest hour. So no quick charge is still open when the drivers of the next day
# look.
EARLIEST, LATEST = 6.0, 23.5
_DAY, _REST = 86_400, 1_800
_MINUTES = 26 * 60


@dataclass(frozen=True)
class Sessions:
    """Sessions in order of start. Each array has one value for each session.

    Attributes:
        driver: the place of the driver.
        start: seconds since the beginning of the history.
        end: seconds since the beginning of the history.
        charge: the charge at the start in %.
        driven: km since the driver's last session; NaN if the sensor failed.
        temperature: °C; NaN if the sensor failed.
        situation: `situation_terms`.
        taken: the quick charges that the driver saw, as in `present_terms`.
        charger_type: the drawn type, as a place in CLASSES.
        end_charge: the charge at the end in %.
        kwh: the drawn energy.
        hours: how long the session took.
        kw: the mean power.
        station: the number of the station.
    """

    driver: np.ndarray
    start: np.ndarray
    end: np.ndarray
    charge: np.ndarray
    driven: np.ndarray
    temperature: np.ndarray
    situation: np.ndarray
    taken: np.ndarray
    charger_type: np.ndarray
    end_charge: np.ndarray
    kwh: np.ndarray
    hours: np.ndarray
    kw: np.ndarray
    station: np.ndarray


def draw_sessions(drivers: Drivers, seed: int, days: int) -> Sessions:
    """Draw the sessions of all drivers. A shorter history is the beginning of a longer history."""
    # The drivers have the streams 0, 1, 2 and so on, so this stream is free.
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(drivers)])))
    drawn = list(_Road(drivers, random).days(days))
    return Sessions(*(np.concatenate([getattr(day, field.name) for day in drawn]) for field in fields(Sessions)))


class _Road:
    """All drivers on their way: the charge of each battery, the km since the last session, and the end of the rest."""

    def __init__(self, drivers: Drivers, random: np.random.Generator) -> None:
        self.drivers, self.random = drivers, random
        self.charge = drivers.charge.copy()
        self.driven = np.zeros(len(drivers))
        self.free_from = np.zeros(len(drivers), dtype=np.int64)
        self.battery_kwh, self.ac_kw, self.dc_kw = map(drivers.vehicles, ("battery_kwh", "ac_kw", "dc_kw"))
        self.kw = np.column_stack(
            # A quick charge slows down well before the battery is full: its mean power is about 60 % of the limit.
            [0.6 * self.dc_kw, np.full(len(drivers), LEVEL_1_KW), np.minimum(LEVEL_2_KW, self.ac_kw)]
        )
        self.travels = drivers.user_types("name") == "Long-Distance Traveler"

    def days(self, days: int) -> Iterator[Sessions]:
        """Yield the sessions of each day. Each driver drives, and charges if the battery is low enough."""
        chances, trip_km, daily_km = map(self.drivers.user_types, ("trip_chance", "trip_km", "daily_km"))
        mean_c, swing_c = map(self.drivers.cities, ("mean_c", "swing_c"))
        random, n = self.random, len(self.drivers)
        for day in range(days):
            trips = random.random(n) < chances
            km = random.gamma(4, np.where(trips, trip_km, daily_km) / 4)
            by_day = trips | (random.random(n) < 0.35)
            hours = np.where(by_day, random.normal(14, 3, n), random.normal(20, 1.5, n)).clip(EARLIEST, LATEST)
            # The season is coldest in the middle of January. The weather is random.
            season = -np.cos((day - 15) / 365.25 * 2 * np.pi)
            temperatures = (mean_c + swing_c * season + random.normal(0, 4, n)).clip(-30, 45)
            self._drive(km, temperatures)
            charging = random.random(n) <= 0.04 + 0.96 / (1 + np.exp((self.charge - 38) / 9))
            starts = np.maximum(day * _DAY + (hours * 3600).astype(np.int64), self.free_from)
            who = np.flatnonzero(charging)
            # Sessions with equal starts stay in the order of the drivers.
            who = who[np.argsort(starts[who], kind="stable")]
            yield self._charge(who, starts[who], temperatures[who].round(1))

    def _drive(self, km: np.ndarray, temperatures: np.ndarray) -> None:
        # Heating and cold batteries: about a third more at -10 °C than at 20 °C.
        percent_per_km = 16.5 / self.battery_kwh * (1 + 0.011 * np.maximum(0.0, 20 - temperatures))
        # A trip ends when the battery is at 5 %.
        km = np.minimum(km, np.maximum(0.0, self.charge - 5) / percent_per_km)
        self.charge -= km * percent_per_km
        self.driven += km

    def _charge(self, who: np.ndarray, start: np.ndarray, temperature: np.ndarray) -> Sessions:
        """Draw the sessions of the drivers who charge on a day, in order of start."""
        random, n = self.random, len(who)
        charge, driven = self.charge[who].round(1), self.driven[who].round(1)
        hour = start % _DAY // 3600
        situation = situation_terms(Situations(charge, driven, temperature, hour, self.dc_kw[who], self.travels[who]))
        # The energy and the hours of a charge of each type, of shape (sessions, CLASSES).
        target = TARGETS[:, 0] + (TARGETS[:, 1] - TARGETS[:, 0]) * random.random((n, 1))
        wanted = np.maximum(target, charge[:, None] + 1) - charge[:, None]
        kwh = np.minimum(wanted / 100 * self.battery_kwh[who, None] / EFFICIENCY, self.kw[who] * LONGEST)
        hours = kwh / self.kw[who]
        ends = start[:, None] + (hours * 3600).astype(np.int64)
        terms = situation + HABIT_TERMS[self.drivers.habit[who]]
        chosen, taken = self._choose(start, ends[:, QUICK], terms)
        rows = np.arange(n)
        kwh, hours, end = kwh[rows, chosen], hours[rows, chosen], ends[rows, chosen]
        end_charge = np.minimum(100.0, charge + kwh * EFFICIENCY / self.battery_kwh[who] * 100).round(1)
        self.charge[who], self.driven[who], self.free_from[who] = end_charge, 0.0, end + _REST
        return Sessions(
            who, start, end, charge, self._lose(driven), self._lose(temperature), situation, taken, chosen,
            end_charge, kwh.round(3), hours, self.kw[who, chosen], random.integers(1, STATIONS + 1, n),
        )  # fmt: skip

    def _choose(self, start: np.ndarray, quick_end: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw the type of each session of one day.

        Args:
            start: seconds since the beginning of the history, in order.
            quick_end: the end of each session if it is a quick charge.
            terms: V_j without the present.

        Returns:
            The types, as places in CLASSES, and the quick charges that each driver saw.
        """
        draws, places = self.random.random(len(start)), quick_places(len(self.drivers))
        day = start[:1] // _DAY * _DAY
        # A driver looks at the full minute `seen`. A quick charge is open from the minute `first` until `after` begins.
        seen = (start - day - ASKED_BEFORE_MINUTES * 60) // 60
        first, after = (start - day) // 60 + 1, (quick_end - day) // 60 + 1
        # How many more quick charges are open at each minute than a minute earlier.
        change = np.zeros(_MINUTES, dtype=np.int64)
        chosen, taken = np.zeros_like(start), np.zeros_like(start)
        begin = 0
        while begin < len(start):
            # The drivers of a block see only sessions that started before the block. These sessions are drawn already.
            block = slice(begin, int(np.searchsorted(seen, first[begin] - 1, side="right")))
            taken[block] = change.cumsum()[seen[block]]
            p = probabilities(terms[block] + present_terms(taken[block], places))
            chosen[block] = (draws[block, None] >= p.cumsum(axis=1)[:, :-1]).sum(axis=1)
            quick = chosen[block] == QUICK
            np.add.at(change, first[block][quick], 1)
            np.add.at(change, after[block][quick], -1)
            begin = block.stop
        return chosen, taken

    def _lose(self, values: np.ndarray) -> np.ndarray:
        """Remove a few values, because sensors in real histories fail sometimes."""
        return np.where(self.random.random(len(values)) < MISSING_SHARE, np.nan, values)
