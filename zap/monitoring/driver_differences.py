"""The difference between the scores of two versions for each driver, added up from portions of their answers."""

from collections.abc import Mapping, Sequence

import numpy as np

from zap.monitoring.driver_means import brier

Said = Sequence[Mapping[str, float]]
# The rows of the sums.
_SESSIONS, _DIFFERENCES, _LARGEST = range(3)
_FIRST_DRIVERS = 1024


class DriverDifferences:
    """Add up the differences (champion minus challenger, so that more is better) of the halved Brier scores.

    The memory grows with the number of drivers, and not with the number of answers.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._sums = np.zeros((3, _FIRST_DRIVERS))

    @property
    def drivers(self) -> int:
        """Return the number of drivers."""
        return len(self._codes)

    @property
    def sessions(self) -> int:
        """Return the number of sessions."""
        return int(self._sums[_SESSIONS].sum())

    def add(self, drivers: Sequence[str], champion: Said, challenger: Said, used: Sequence[str]) -> None:
        """Add the sessions of a portion.

        Args:
            drivers: the driver of each session.
            champion: for each session, what the version that serves has answered: the probability of each type.
            challenger: for each session, what the challenger would have answered.
            used: for each session, the type that the driver used.
        """
        if not drivers:
            return
        types = [*dict.fromkeys(name for said in (*champion, *challenger) for name in said)]
        one, other = _matrix(champion, types), _matrix(challenger, types)
        places = {name: place for place, name in enumerate(types)}
        labels = np.array([places.get(name, -1) for name in used])
        codes = np.array([self._codes.setdefault(name, len(self._codes)) for name in drivers])
        self._make_room()
        for row, values in (
            (_SESSIONS, np.ones(len(codes))),
            (_DIFFERENCES, brier(one, labels) - brier(other, labels)),
            (_LARGEST, largest_differences(one, other)),
        ):
            np.add.at(self._sums[row], codes, values)

    def means(self) -> np.ndarray:
        """Return for each driver the mean difference over the driver's sessions."""
        return self._means_of(_DIFFERENCES)

    def widest(self) -> float:
        """Return the largest mean difference, up or down, that the answers allow for any driver."""
        return float(np.clip(self._means_of(_LARGEST).max(), 1e-9, 1.0)) if self.drivers else 1.0

    def _means_of(self, row: int) -> np.ndarray:
        means: np.ndarray = self._sums[row, : self.drivers] / self._sums[_SESSIONS, : self.drivers]
        return means

    def _make_room(self) -> None:
        while self._sums.shape[1] < self.drivers:
            self._sums = np.hstack([self._sums, np.zeros_like(self._sums)])


def largest_differences(champion: np.ndarray, challenger: np.ndarray) -> np.ndarray:
    """Return for each session the largest difference of the scores, up or down, that the two answers allow.

    If the driver used type y, the difference of the halved Brier scores is (|p|^2 - |q|^2) / 2 - (p_y - q_y). So the
    answers alone, without the outcomes, say how large it can be. Versions that answer alike differ little, and bets on
    a narrow range grow faster.

    Args:
        champion: the probabilities of the version that serves, of shape (sessions, types).
        challenger: the probabilities of the challenger, for the same types; 0 for a type that it does not know.
    """
    level = ((champion**2).sum(axis=1) - (challenger**2).sum(axis=1)) / 2
    # The last column is a type that neither version knows.
    of_type = level[:, None] - np.column_stack([champion - challenger, np.zeros(len(champion))])
    largest: np.ndarray = np.abs(of_type).max(axis=1)
    return largest


def _matrix(said: Said, types: Sequence[str]) -> np.ndarray:
    """Return probabilities of shape (sessions, types); 0 for a type that the version does not know."""
    return np.array([[one.get(name, 0.0) for name in types] for one in said])
