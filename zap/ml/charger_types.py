"""Charger types that are learned: types with enough sessions, up to a largest number of types.

The types are bounded, because every client that reports sessions can invent types. The time and the memory of a
training grow with the square of the number of types.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# How many names of left-out types a report shows, and how many characters of a name.
_SHOWN = 20
_LONGEST_NAME = 100
# How many names of left-out types a sentence shows.
_SAID = 3
# With more types than this, a person is told how long a fit takes.
MANY_TYPES = 10
# The seconds of one core that a fit with the default hyper-parameters takes for each type, and for each type and
# session: a constant, and a part that grows with the number of types, because the past has columns for each type.
# Measured with 3 to 40 types on 3,000 sessions, and with 3 types on a million.
_TYPE_SECONDS = (1.7, 0.015)
_SESSION_SECONDS = (1.4e-5, 1.2e-6)


class TypeBounds(NamedTuple):
    """The bounds for charger types that may be learned.

    Attributes:
        fewest_sessions: the number of sessions that a type needs.
        least_share: the share of all sessions that a type needs.
        most: the largest number of types; the most frequent types are learned.
    """

    fewest_sessions: int = 5
    least_share: float = 0.005
    most: int = 20

    def needed(self, sessions: int) -> int:
        """Return the number of sessions that a type needs in a history of `sessions` sessions."""
        return max(self.fewest_sessions, math.ceil(self.least_share * sessions - 1e-9))


@dataclass(frozen=True)
class LeftOutTypes:
    """The charger types that are not learned, with their numbers of sessions.

    Attributes:
        needed: the number of sessions that a type needs.
        most: the largest number of learned types.
        rare: the types with fewer than `needed` sessions.
        surplus: the types with enough sessions that are not among the `most` most frequent types.
    """

    needed: int
    most: int
    rare: Mapping[str, int]
    surplus: Mapping[str, int]

    @property
    def sessions(self) -> int:
        """Return the number of sessions of left-out types. They are neither learned from nor tested on."""
        return sum(self.rare.values()) + sum(self.surplus.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the left-out types as JSON for the report of a training, with a bound on the names."""
        return {
            "needed_sessions": self.needed,
            "most_types": self.most,
            "too_few_sessions": _counted(self.rare),
            "too_many_types": _counted(self.surplus),
        }

    def in_words(self) -> str:
        """Return a sentence about the left-out types, or an empty text if there are none."""
        if not self.sessions:
            return ""
        reasons = []
        if self.rare:
            reasons.append(f"{_named(self.rare)} with fewer than {self.needed:,} sessions each")
        if self.surplus:
            reasons.append(f"{_named(self.surplus)} beyond the {self.most} most frequent ones")
        return (
            f"{self.sessions:,} sessions are neither learned from nor tested on, because their charger types are not"
            f" learned: {', and '.join(reasons)} (they stay part of their drivers' pasts)."
        )


def learned_types(used: pd.Series, bounds: TypeBounds) -> tuple[frozenset[str], LeftOutTypes]:
    """Return the types that are learned, and the types that are left out.

    Args:
        used: the charger type of each session that may be learned from or tested on.
        bounds: the bounds for learned types.
    """
    counts = {str(name): int(count) for name, count in used.value_counts().items()}
    needed = bounds.needed(len(used))
    # The most frequent types come first. Equally frequent types are ordered by name: the result is reproducible.
    ranked = sorted((name for name, count in counts.items() if count >= needed), key=lambda name: (-counts[name], name))
    rare = {name: count for name, count in counts.items() if count < needed}
    surplus = {name: counts[name] for name in ranked[bounds.most :]}
    return frozenset(ranked[: bounds.most]), LeftOutTypes(needed, bounds.most, rare, surplus)


def in_words_if_many(types: int, sessions: int) -> str:
    """Return how long a fit takes about, if there are many charger types; an empty text otherwise.

    Args:
        types: the number of learned types.
        sessions: the number of training sessions.
    """
    if types <= MANY_TYPES:
        return ""
    each, each_session = (one + more * types for one, more in (_TYPE_SECONDS, _SESSION_SECONDS))
    seconds = types * (each + each_session * sessions)
    shown = f"{round(seconds, -1):.0f} seconds" if seconds < 100 else f"{seconds / 60:,.0f} minutes"
    return (
        f"{types} charger types are learned from {sessions:,} sessions: with the default hyper-parameters, each fit"
        f" takes about {shown} of one processor core. To learn fewer types, give types of one kind one name, or lower"
        " ZAP_MOST_TYPES"
    )


def places_of_types(frame: pd.DataFrame, first: int, types: Collection[str]) -> np.ndarray | None:
    """Return the places of the sessions that are learned from or tested on; None if all sessions are.

    Args:
        frame: cleaned sessions in time order.
        first: the sessions before this place serve only as the drivers' past; their places are returned too.
        types: the types that are learned.
    """
    inside = np.ones(len(frame), dtype=bool)
    inside[first:] = frame["charger_type"].iloc[first:].isin(types).to_numpy()
    return None if inside.all() else np.flatnonzero(inside)


def _counted(types: Mapping[str, int]) -> dict[str, Any]:
    return {"types": len(types), "sessions": sum(types.values()), "largest": _largest(types, _SHOWN)}


def _named(types: Mapping[str, int]) -> str:
    """Return the number of types in words, with the names of the most frequent types."""
    names = ", ".join(f"{name!r}: {count:,}" for name, count in _largest(types, _SAID).items())
    return f"{len(types):,} type{'s' * (len(types) != 1)} ({names}{', …' * (len(types) > _SAID)})"


def _largest(types: Mapping[str, int], most: int) -> dict[str, int]:
    ranked = sorted(types.items(), key=lambda one: (-one[1], one[0]))[:most]
    return {name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…": count for name, count in ranked}


def in_order(used: pd.Series) -> tuple[str, ...]:
    """Return the different charger types in the order of their names."""
    return tuple(sorted(used.unique().tolist()))
