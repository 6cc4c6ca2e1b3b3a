"""Search for hyper-parameters on the training part of a history: candidates race, and bad ones are given up early."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from zap.errors import UnusableHistory
from zap.ml.boosting import BoostingProgress
from zap.ml.candidate import Candidate, GivenUp, Measured
from zap.ml.contract import known_categories
from zap.ml.driver_codes import witness_codes
from zap.ml.folds import Fold, time_folds
from zap.ml.leaving_out import LeavingOut
from zap.ml.model import ChargerTypeModel
from zap.ml.race import Race
from zap.ml.search_result import Search, Trial
from zap.ml.search_space import DEFAULT_ROUNDS, search_candidates
from zap.ml.training import Split
from zap.sentences import say

# A search uses only the newest sessions, because a search over a long history would take days.
_MOST_SESSIONS = 50_000
_SEEDS = 2**31


class Budget(NamedTuple):
    """The limits of a search.

    Attributes:
        trials: the number of candidates, including the defaults.
        minutes: no new fit begins after this many minutes, but the defaults are always tried. Each rung of the race
            gets a third of the time.
    """

    trials: int = 24
    minutes: float = 15.0


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
    defaults and the incumbent are always tried on all folds. At the end, the best candidate is tried without groups
    of columns, see `leaving_out.py`.

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
    folds, leaving_out, sessions = _prepared(split, n_jobs)
    # If the number of rounds is not pinned, one fit of the defaults gives two candidates: the defaults with their own
    # number of rounds, and with the best number.
    twice = "n_estimators" not in pinned
    candidates, carried = search_candidates(budget.trials - twice, pinned, incumbent, seed)
    extra = leaving_out.most_fits if budget.trials > 1 and "left_out" not in pinned else 0

    def tell(done: int, most: int, _log_loss: float | None = None, /) -> None:
        if progress:
            progress(done, most + extra)

    race = Race(candidates, carried, folds, n_jobs, tell)
    race.carry()
    late = time.monotonic() - begin > 60 * budget.minutes
    outcomes = race.run(begin, budget.minutes)
    trials = [_trial(candidate, outcome) for candidate, outcome in zip(candidates, outcomes, strict=True) if outcome]
    if twice:
        defaults = Trial(pinned, race.measured(0, rounds=DEFAULT_ROUNDS).log_losses)
        left_out = (not incumbent and (late or budget.trials == 1)) or trials[0].log_loss == defaults.log_loss
        trials = [defaults, *(trials[1:] if left_out else trials)]
    ended_by = "minutes" if race.cut_short or (late and budget.trials > 1) else "trials"
    found = Search(trials, len(folds), sessions, time.monotonic() - begin, ended_by, seed, pinned)
    if not extra or race.cut_short:
        return found
    until = begin + 60 * budget.minutes
    groups = leaving_out.run(
        found.best.hyper_parameters, until, lambda done: tell(race.most_fits + done, race.most_fits)
    )
    return replace(found.without(groups), seconds=time.monotonic() - begin)


def _prepared(split: Split, n_jobs: int) -> tuple[list[Fold], LeavingOut, int]:
    """Return the folds of the newest training sessions, the tests of groups of columns, and the number of sessions."""
    model = ChargerTypeModel()
    matrix = split.matrix[split.trained]
    codes = model.prepare_in_place(
        split.train, split.train["charger_type"], matrix, categories=known_categories(split.frame)
    )
    matrix, codes = matrix[-_MOST_SESSIONS:], codes[-_MOST_SESSIONS:]
    folds = time_folds(matrix, codes, len(model.classes_))
    if not folds:
        raise UnusableHistory(
            say(
                "no fold of the training part has two charger types in its training rows, so a search is not"
                " possible; train without a search"
            )
        )
    drivers = witness_codes(split.frame)[split.in_frame(split.trained)][-_MOST_SESSIONS:]
    return folds, LeavingOut(folds, drivers, len(model.classes_), n_jobs), len(codes)


def _trial(candidate: Candidate, outcome: Measured | GivenUp) -> Trial:
    if isinstance(outcome, GivenUp):
        return Trial(dict(candidate.values), [], outcome)
    return Trial({**candidate.values, "n_estimators": outcome.rounds}, outcome.log_losses)
