"""A candidate of a search, and its result: the log losses on folds, or the point where it was given up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from zap.ml.model import ChargerTypeModel


@dataclass(frozen=True)
class Candidate:
    """A candidate: hyper-parameters that a search tries.

    Attributes:
        values: the hyper-parameters that the candidate sets; `n_estimators` only if the number of rounds is fixed.
        at_least: the number of rounds before early stopping may act.
    """

    values: Mapping[str, Any]
    at_least: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """Return all hyper-parameters, including the defaults."""
        params: dict[str, Any] = ChargerTypeModel(**self.values).get_params()
        return params

    @property
    def rounds(self) -> int | None:
        """Return the number of boosting rounds; None if the log losses decide it."""
        return self.values.get("n_estimators")

    @property
    def key(self) -> tuple[Any, ...]:
        """Return a key; candidates with equal hyper-parameters have equal keys."""
        params = {**self.params, "n_estimators": self.rounds, "left_out": tuple(sorted(self.params["left_out"]))}
        return tuple(params.values())


class Measured(NamedTuple):
    """The result of a candidate on some folds.

    Attributes:
        rounds: the number of rounds with the lowest mean log loss, or the fixed number.
        log_losses: the log loss on each fold after `rounds` rounds, in time order.
    """

    rounds: int
    log_losses: list[float]

    @property
    def log_loss(self) -> float:
        """Return the mean log loss over the folds."""
        return float(np.mean(self.log_losses))


class GivenUp(NamedTuple):
    """The point at which a candidate left the race. Log losses on other folds or rows are not comparable.

    Attributes:
        folds: the number of folds that the candidate was tried on, the newest folds.
        rows: the number of training rows in the largest of these folds.
        log_loss: the mean log loss over these folds.
        behind: the log loss minus the lowest log loss on these folds and rows; 0 if the time ended before the best
            candidate could go on.
    """

    folds: int
    rows: int
    log_loss: float
    behind: float
