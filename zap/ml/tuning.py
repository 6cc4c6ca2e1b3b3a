"""Search for hyper-parameters on the training part of a history: candidates race, and bad ones are given up early."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler

from zap.errors import UnusableHistory
from zap.ml.boosting import BoostingProgress
from zap.ml.contract import known_categories
from zap.ml.folds import time_folds
from zap.ml.model import ChargerTypeModel
from zap.ml.race import Candidate, GivenUp, Measured, Race
from zap.ml.training import Split

# A search uses only the newest sessions, because a search over a long history would take days.
_MOST_SESSIONS = 50_000
_SEEDS = 2**31
_DEFAULT_ROUNDS: int = ChargerTypeModel().n_estimators

# A candidate of every search: strong regularisation, which was better than the defaults on several real histories.
_REGULARISED = {
    "num_leaves": 7,
    "learning_rate": 0.03,
    "min_child_samples": 50,
    "reg_lambda": 10.0,
}
# The number of rounds is not drawn: the log loss after each round shows the best number.
_SPACE = {
    "num_leaves": [4, 7, 15, 31, 63],
    "learning_rate": [0.05, 0.08],
    "colsample_bytree": [0.4, 0.6, 0.8, 1.0],
    "min_child_samples": [10, 20, 50, 100],
    "reg_alpha": [0.0, 1.0, 5.0],
    "reg_lambda": [0.0, 1.0, 5.0, 10.0, 20.0],
}


class Budget(NamedTuple):
    """The limits of a search.

    Attributes:
        trials: the number of candidates, including the defaults.
        minutes: no new fit begins after this many minutes, but the defaults are always tried. Each rung of the race
            gets a third of the time.
    """

    trials: int = 24
    minutes: float = 15.0


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
    """

    trials: list[Trial]
    folds: int
    sessions: int
    seconds: float
    ended_by: str
    seed: int = 0
    pinned: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Trial:
        """Return the candidate with the lowest log loss over all folds; of equal candidates, the first."""
        finished = [trial for trial in self.trials if len(trial.fold_log_losses) == self.folds]
        return min(finished, key=lambda trial: trial.log_loss)

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


def search(  # noqa: PLR0913
    split: Split,
    budget: Budget,
    *,
    n_jobs: int,
    pinned: Mapping[str, Any] | None = None,
    incumbent: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: BoostingProgress | None = None,
) -> Search:
    """Search for hyper-parameters on the training part of `split`. The test part is never used.

    All candidates are tried on the newest rows of the newest fold. The best third goes on to all rows of that fold, and
    the best third of these candidates to all folds. If the newest fold is short, the folds before it are added. The
    defaults and the incumbent are always tried on all folds.

    Args:
        split: the history.
        budget: the limits of the search.
        n_jobs: the number of fits in parallel, each on one thread. The result does not depend on it.
        pinned: the values that every candidate sets.
        incumbent: the values that the tuning in force sets. With the pinned values they are a candidate too.
        seed: the seed for drawing candidates; by default a random seed.
        progress: called with the number of finished fits, and the largest number of fits.

    Raises:
        UnusableHistory: no fold has two charger types in its training rows.
    """
    begin = time.monotonic()
    seed = int(np.random.default_rng().integers(_SEEDS)) if seed is None else seed
    pinned = dict(pinned or {})
    model = ChargerTypeModel()
    matrix = split.matrix[split.trained]
    codes = model.prepare_in_place(
        split.train, split.train["charger_type"], matrix, categories=known_categories(split.frame)
    )
    matrix, codes = matrix[-_MOST_SESSIONS:], codes[-_MOST_SESSIONS:]
    folds = time_folds(matrix, codes, len(model.classes_))
    if not folds:
        raise UnusableHistory(
            "no fold of the training part has two charger types in its training rows, so a search is not possible;"
            " train without a search"
        )
    # If the number of rounds is not pinned, one fit of the defaults gives two candidates: the defaults with their own
    # number of rounds, and with the best number.
    twice = "n_estimators" not in pinned
    candidates, carried = _candidates(budget.trials - twice, pinned, incumbent, seed)
    race = Race(candidates, carried, folds, n_jobs, progress)
    race.carry()
    late = time.monotonic() - begin > 60 * budget.minutes
    outcomes = race.run(begin, budget.minutes)
    trials = [_trial(candidate, outcome) for candidate, outcome in zip(candidates, outcomes, strict=True) if outcome]
    if twice:
        defaults = Trial(pinned, race.measured(0, rounds=_DEFAULT_ROUNDS).log_losses)
        left_out = (not incumbent and (late or budget.trials == 1)) or trials[0].log_loss == defaults.log_loss
        trials = [defaults, *(trials[1:] if left_out else trials)]
    ended_by = "minutes" if race.cut_short or (late and budget.trials > 1) else "trials"
    return Search(trials, len(folds), len(codes), time.monotonic() - begin, ended_by, seed, pinned)


def _candidates(
    most: int, pinned: Mapping[str, Any], incumbent: Mapping[str, Any] | None, seed: int
) -> tuple[list[Candidate], int]:
    """Return up to `most` different candidates, and the number of candidates that skip the race (defaults, incumbent).

    If the number of rounds is not pinned, the log losses decide it. The defaults and the incumbent are boosted for at
    least their own number of rounds, so that they are never judged by fewer rounds.
    """
    different: dict[tuple[Any, ...], Candidate] = {}
    for values in [{}, incumbent] if incumbent else [{}]:
        candidate = Candidate(_pinned(values, pinned), values.get("n_estimators", _DEFAULT_ROUNDS))
        known = different.get(candidate.key, candidate)
        different[candidate.key] = replace(known, at_least=max(known.at_least, candidate.at_least))
    carried = len(different)
    space = {name: values for name, values in _SPACE.items() if name not in pinned}
    # Three draws more, because a drawn candidate may equal the defaults, the incumbent or the regularised candidate.
    draws = min(len(ParameterGrid(space)), max(most, 0) + 3)
    for values in [_REGULARISED, *ParameterSampler(space, n_iter=draws, random_state=seed)]:
        candidate = Candidate(_pinned(values, pinned))
        different.setdefault(candidate.key, candidate)
    return list(different.values())[: max(most, carried)], carried


def _pinned(values: Mapping[str, Any], pinned: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in values.items() if name != "n_estimators"}, **pinned}


def _trial(candidate: Candidate, outcome: Measured | GivenUp) -> Trial:
    if isinstance(outcome, GivenUp):
        return Trial(dict(candidate.values), [], outcome)
    return Trial({**candidate.values, "n_estimators": outcome.rounds}, outcome.log_losses)
