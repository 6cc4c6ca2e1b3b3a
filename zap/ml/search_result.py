"""The result of a search: its trials, the best one, and the evidence that is stored."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zap.ml.candidate import GivenUp
from zap.ml.leaving_out import LeftOut


@dataclass(frozen=True)
class Trial:
    """One candidate with its result.

    Attributes:
        hyper_parameters: the values that the candidate sets, including pinned values; the other values are defaults.
        fold_log_losses: the log loss on the test part of each fold, in time order; empty if the candidate was given up.
        given_up: the point where the candidate was given up; None if it was tried on all folds.
    """

    hyper_parameters: dict[str, Any]
    fold_log_losses: list[float]
    given_up: GivenUp | None = None

    @property
    def log_loss(self) -> float:
        """Return the mean log loss over all folds; NaN if the candidate was given up."""
        return math.nan if self.given_up else float(np.mean(self.fold_log_losses))


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes:
        trials: the candidates, the defaults first, then in the order in which they were drawn.
        folds: the number of folds.
        sessions: the number of sessions in the folds.
        seconds: the duration of the search.
        ended_by: the limit that ended the search: `trials` or `minutes`.
        seed: the seed. Equal seeds, histories and numbers of trials give equal searches.
        pinned: the values that every candidate sets.
        groups: the tests of leaving out groups of columns. If a group is left out, the last trial is the result.
    """

    trials: list[Trial]
    folds: int
    sessions: int
    seconds: float
    ended_by: str
    seed: int = 0
    pinned: dict[str, Any] = field(default_factory=dict)
    groups: LeftOut = field(default_factory=LeftOut)

    @property
    def best(self) -> Trial:
        """Return the candidate with the lowest log loss over all folds; of equal candidates, the first."""
        finished = [trial for trial in self.trials if len(trial.fold_log_losses) == self.folds]
        return min(finished, key=lambda trial: trial.log_loss)

    def without(self, groups: LeftOut) -> "Search":
        """Return this search with the tests of leaving out groups of columns for its best candidate."""
        taken = groups.taken
        if taken is None:
            return replace(self, groups=groups)
        trial = Trial({**self.best.hyper_parameters, "left_out": taken.left_out}, taken.fold_log_losses)
        return replace(self, groups=groups, trials=[*self.trials, trial])

    def evidence(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "log_loss": self.best.log_loss,
            "default_log_loss": self.trials[0].log_loss,
            "folds": self.folds,
            "sessions": self.sessions,
            "seconds": round(self.seconds, 1),
            "ended_by": self.ended_by,
            "seed": self.seed,
            "pinned": self.pinned,
            "groups": self.groups.evidence(),
            "trials": [
                {
                    "hyper_parameters": trial.hyper_parameters,
                    "log_loss": None if trial.given_up else trial.log_loss,
                    "fold_log_losses": trial.fold_log_losses,
                    "given_up": trial.given_up and trial.given_up._asdict(),
                }
                for trial in self.trials
            ],
        }
