"""The choices in the synthetic history: the stated model, which gives the true probability of each charger type.

Every charger type is drawn from a random-utility model, McFadden's conditional logit ("Conditional logit analysis of
qualitative choice behavior", 1974): a driver takes the type j with the largest U_j = V_j + e_j, the e_j independent
standard Gumbel, so that P(j) = exp(V_j) / sum_k exp(V_k). V_j is the sum of three parts:

- the situation (`situation_terms`): what the session's own columns hold (charge, distance, temperature, hour, vehicle,
  user type);
- the habit (`HABIT_TERMS`): the charger at the driver's home, and the worth of a quick charge to this driver. No column
  holds the habit: a model can learn it only from the driver's earlier sessions;
- the present (`present_terms`): how many of the places for a quick charge are taken. The driver sees the number for all
  cities together, ASKED_BEFORE_MINUTES before plug-in. A model can learn it only from the sessions of all drivers.

A quick charge is a session on a DC Fast Charger. Only the places for a quick charge count, because many chargers of the
other types stand at home, where nobody else takes them. The best log loss of the default history is 0.475. Without
knowledge of the present it is 0.497, so the present is worth 4.2 % of the log loss. Without knowledge of the habit it
is 0.690, so the habit is worth 31 %. In a history of more drivers, the present is worth less, because the number of
taken places varies less around its usual value at each hour: with 4,000 drivers, the present is worth 0.5 %.
"""

from dataclasses import dataclass

import numpy as np

from zap.ml.sample_drivers import HABIT_SHARES, HABITS

CLASSES = ("DC Fast Charger", "Level 1", "Level 2")
QUICK = CLASSES.index("DC Fast Charger")
ASKED_BEFORE_MINUTES = 15
# The drivers for one place, and how much less the utility of a quick charge is if all places are taken.
DRIVERS_PER_PLACE = 100
CROWDING = 2.3
# The utility that a habit adds to each of CLASSES.
HABIT_TERMS = np.array(
    [
        [
            habit.haste,
            2.6 * (habit.home == "Level 1") - (habit.home == "none"),
            2.4 * (habit.home == "Level 2"),
        ]
        for habit in HABITS
    ]
)


@dataclass(frozen=True)
class Situations:
    """The values that sessions have before the choice. Each array has one value for each session.

    Attributes:
        charge: the charge in %.
        driven: km since the last session.
        temperature: °C.
        hour: the hour of the day, 0 to 23.
        dc_kw: the largest DC power of the vehicle.
        travels: whether the driver is a Long-Distance Traveler.
    """

    charge: np.ndarray
    driven: np.ndarray
    temperature: np.ndarray
    hour: np.ndarray
    dc_kw: np.ndarray
    travels: np.ndarray


def situation_terms(known: Situations) -> np.ndarray:
    """Return the part of V_j that the situation adds, of shape (sessions, CLASSES)."""
    low = (45 - known.charge) / 20
    far = np.tanh((known.driven - 140) / 50)
    cold = np.maximum(0.0, 10 - known.temperature) / 20
    quick = -1.0 + 3.2 * far + 1.3 * low + 0.4 * known.travels + 0.4 * np.log(known.dc_kw / 100) - 0.5 * cold
    quick -= 1.8 * is_evening(known.hour)
    return np.column_stack([quick, -0.2 - 2.4 * low, np.full(len(low), 0.6)])


def present_terms(taken: np.ndarray, places: int) -> np.ndarray:
    """Return the part of V_j that the present adds, of shape (sessions, CLASSES).

    Args:
        taken: the quick charges that were open ASKED_BEFORE_MINUTES before each session: they started before that
            moment, rounded down to a full minute, and had not ended before it.
        places: `quick_places`. If more drivers charge than there are places, the others wait.
    """
    terms = np.zeros((len(taken), len(CLASSES)))
    terms[:, QUICK] = -CROWDING * taken / places
    return terms


def quick_places(drivers: int) -> int:
    """Return the number of places for a quick charge."""
    return max(1, round(drivers / DRIVERS_PER_PLACE))


def probabilities(utilities: np.ndarray) -> np.ndarray:
    """Return P(j) for V_j of shape (sessions, CLASSES)."""
    weights = np.exp(utilities)
    p: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return p


def is_evening(hour: np.ndarray) -> np.ndarray:
    return (hour >= 18) | (hour < 6)


@dataclass(frozen=True)
class Choices:
    """The values from which each choice was drawn, in the order of the sessions.

    Attributes:
        situation: `situation_terms`.
        habit: the habit of the session's driver, as a place in HABITS.
        taken: the quick charges that the driver saw, as in `present_terms`.
        hour: the hour of the start.
        places: the places for a quick charge.
    """

    situation: np.ndarray
    habit: np.ndarray
    taken: np.ndarray
    hour: np.ndarray
    places: int

    def true(self) -> np.ndarray:
        """Return P(j), of shape (sessions, CLASSES)."""
        return probabilities(self.situation + HABIT_TERMS[self.habit] + present_terms(self.taken, self.places))

    def without_habit(self) -> np.ndarray:
        """Return P(j) without knowledge of the habit: the mean over HABIT_SHARES."""
        known = self.situation + present_terms(self.taken, self.places)
        p: np.ndarray = np.zeros_like(known)
        for share, term in zip(HABIT_SHARES, HABIT_TERMS, strict=True):
            p += share * probabilities(known + term)
        return p

    def without_present(self) -> np.ndarray:
        """Return P(j) without knowledge of the present: the mean over the numbers that sessions of this hour saw."""
        known = self.situation + HABIT_TERMS[self.habit]
        p: np.ndarray = np.zeros_like(known)
        for hour in np.unique(self.hour):
            rows = self.hour == hour
            for taken, sessions in zip(*np.unique(self.taken[rows], return_counts=True), strict=True):
                term = present_terms(np.array([taken]), self.places)
                p[rows] += sessions / rows.sum() * probabilities(known[rows] + term)
        return p
