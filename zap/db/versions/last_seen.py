"""When each model version was last seen in production: whether its answers may still be given."""

import time

# An answer is given only if its version was in production this long ago, in seconds. A reply then leaves within two
# seconds after a rollback, even if the database has not answered this process since.
ANSWERS_SECONDS = 1.5
# Versions that are remembered: of older ones no answer is under way.
_MOST_VERSIONS = 8


class LastSeen:
    """Remember when each version was last seen in production, on the monotonic clock of this process.

    Only this clock counts: a clock of a machine may be wrong, and a look may have taken long. So a look counts from the
    moment when it began.
    """

    def __init__(self) -> None:
        self._began: dict[int, float] = {}

    def note(self, model_version: int, began: float) -> None:
        """Remember that a look that began at this moment has seen the version in production."""
        seen = {**self._began, model_version: max(began, self._began.get(model_version, began))}
        self._began = dict(sorted(seen.items(), key=lambda one: one[1])[-_MOST_VERSIONS:])

    def may_answer(self, model_version: int) -> bool:
        """Return whether the version was in production a moment ago."""
        began = self._began.get(model_version)
        return began is not None and time.monotonic() - began < ANSWERS_SECONDS
