"""The charger types that are not learned, as a report and in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zap.sentences import say, say_many

# How many names of left-out types a report shows, and how many characters of a name.
_SHOWN = 20
_LONGEST_NAME = 100
# How many names of left-out types a sentence shows.
_SAID = 3


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
        return say(
            "{sessions:,} sessions are neither learned from nor tested on, because their charger types are not learned:"
            " {why} (they stay part of their drivers' pasts).",
            sessions=self.sessions,
            why=self._why(),
        )

    def _why(self) -> str:
        values = {
            "rare": _named(self.rare),
            "needed": self.needed,
            "surplus": _named(self.surplus),
            "most": self.most,
        }
        if not self.surplus:
            return say("{rare} with fewer than {needed:,} sessions each", **values)
        if not self.rare:
            return say("{surplus} beyond the {most} most frequent ones", **values)
        return say(
            "{rare} with fewer than {needed:,} sessions each, and {surplus} beyond the {most} most frequent ones",
            **values,
        )


def _counted(types: Mapping[str, int]) -> dict[str, Any]:
    return {"types": len(types), "sessions": sum(types.values()), "largest": _largest(types, _SHOWN)}


def _named(types: Mapping[str, int]) -> str:
    """Return the number of types in words, with the names of the most frequent types."""
    names = ", ".join(f"{name!r}: {count:,}" for name, count in _largest(types, _SAID).items())
    if len(types) > _SAID:
        names = f"{names}, …"
    return say_many("{n:,} type ({names:s})", "{n:,} types ({names:s})", len(types), names=names)


def _largest(types: Mapping[str, int], most: int) -> dict[str, int]:
    ranked = sorted(types.items(), key=lambda one: (-one[1], one[0]))[:most]
    return {name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…": count for name, count in ranked}
