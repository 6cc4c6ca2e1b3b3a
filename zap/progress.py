"""Progress: how long work reports its phases."""

from typing import Protocol


class Progress(Protocol):
    """A function that is called with a phase, how much of it is done, and how much there is in all.

    The first call of a phase is (what, 0, total). Boosting also reports its mean log loss on the training rows.
    """

    def __call__(self, what: str, done: int, total: int, log_loss: float | None = None, /) -> None: ...


def no_progress(what: str, done: int, total: int, log_loss: float | None = None, /) -> None:
    """Ignore progress, for callers that do not show it."""
