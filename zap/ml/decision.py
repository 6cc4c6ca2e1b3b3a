"""The decision whether a new version serves, and the facts about the version in production that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zap.sentences import say


class Serving(NamedTuple):
    """The facts about the version in production that a decision needs.

    Attributes:
        number: the number of the version.
        damage: why the version cannot be loaded; None if it can be loaded.
        comparison: the result of `compare_versions`; None if it is not known which sessions the version has seen.
    """

    number: int
    damage: str | None = None
    comparison: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a new version serves, and why.

    Attributes:
        promoted: whether the new version serves.
        reason: the reason in words.
        depends: whether the decision depends on the version that was in production when it was made.
        serving: the number of the version in production at that time; None if there was none.
        comparison: the figures behind the decision, if there are any.
        tries: whether a trial beside the version in production follows.
        trial: the number of this trial; None before it has begun, and without one.
    """

    promoted: bool
    reason: str
    depends: bool = False
    serving: int | None = None
    comparison: Mapping[str, Any] | None = None
    tries: bool = False
    trial: int | None = None

    def as_dict(self) -> dict[str, Any]:
        names = ("promoted", "reason", "comparison", "trial")
        return {name: getattr(self, name) for name in names}

    def confirmed(self, serving: int | None) -> "Decision":
        """Return this decision, or a refusal if it depends on another version than the one in production now.

        Args:
            serving: the number of the version in production now; None if there is none.
        """
        if not (self.promoted and self.depends) or self.serving == serving:
            return self
        reason = say(
            "version {number} was put into production during the training; train again to compare with it",
            number=serving,
        )
        return Decision(promoted=False, reason=reason, comparison=self.comparison)
