"""A race of candidates over folds: all start on few rows, and the best third goes on to more rows and more folds."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from zap.ml.boosting import BoostingProgress
from zap.ml.candidate import Candidate, GivenUp, Measured
from zap.ml.folds import Fold

# With fewer rows, candidates that learn weakly look best.
_FEWEST_ROWS = 10_000
# With fewer test rows, the order of the candidates is chance.
_FEWEST_TESTED = 1_000
# The share of candidates that goes on to the next rung.
_KEPT = 1 / 3


class _Rung(NamedTuple):
    """A step of the race: all folds or only the newest fold, and a share of each fold's newest rows."""

    all_folds: bool
    rows: float


# The third rung contains the second, so the fits of the second are used again.
_RUNGS = (_Rung(all_folds=False, rows=0.25), _Rung(all_folds=False, rows=1.0), _Rung(all_folds=True, rows=1.0))


class Race:
    """A race over folds. The result does not depend on the number of threads.

    Args:
        candidates: the candidates. The first `carried` candidates are tried on all folds, the other candidates race.
        carried: the number of candidates that do not race.
        folds: the folds in time order.
        n_jobs: the number of fits in parallel, each on one thread.
        progress: called with the number of finished fits, and the largest number of fits.

    Attributes:
        cut_short: whether the time ended before all fits were done.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        carried: int,
        folds: Sequence[Fold],
        n_jobs: int,
        progress: BoostingProgress | None,
    ) -> None:
        self._candidates, self._carried = candidates, carried
        # Rungs share the objects of whole folds, so that no candidate is fitted twice on a fold.
        self._whole = list(folds)
        self._rungs = [_on(rung, self._whole) for rung in _RUNGS]
        # Parallel fits on one thread each do not wait for each other, whereas the threads of a single fit do.
        self._side_by_side = Parallel(
            n_jobs=n_jobs, prefer="threads", return_as="generator", batch_size=1, pre_dispatch="n_jobs"
        )
        self.cut_short = False
        self._curves: dict[tuple[int, Fold], list[float]] = {}
        self._progress, self._done, self._most = progress, 0, self._fits()

    def carry(self) -> None:
        """Try the defaults and the incumbent on all folds, without a time limit."""
        self._fit(range(self._carried), self._whole, math.inf)

    def run(self, begin: float, minutes: float) -> list[Measured | GivenUp | None]:
        """Return for each candidate its result on all folds, the point where it was given up, or None.

        None means that the time ended before the candidate was tried.

        Args:
            begin: the start of the search, from `time.monotonic`.
            minutes: no fit begins later than this many minutes after `begin`. Each rung gets an equal part of the
                time, so that a short search of many candidates reaches the last rung too.
        """
        outcomes: list[Measured | GivenUp | None] = [None] * len(self._candidates)
        going_on = list(range(self._carried, len(self._candidates)))
        for number, folds in enumerate(self._rungs, start=1):
            kept = _kept(number, len(going_on))
            if number < len(self._rungs) and kept == len(going_on):
                continue
            self._fit(going_on, folds, begin + 60 * minutes * number / len(self._rungs))
            found = {place: self.measured(place, folds) for place in going_on if self._has(place, folds)}
            ranked = sorted(found, key=lambda place: found[place].log_loss)
            for place in ranked:
                loss = found[place].log_loss
                behind = loss - found[ranked[0]].log_loss
                outcomes[place] = GivenUp(len(folds), max(fold.rows for fold in folds), loss, behind)
            going_on = ranked[:kept]
        for place in range(len(self._candidates)):
            if self._has(place, self._whole):
                outcomes[place] = self.measured(place, self._whole)
        return outcomes

    def measured(self, place: int, folds: Sequence[Fold] | None = None, rounds: int | None = None) -> Measured:
        """Return the result of a candidate after `rounds` rounds, or else after the best number of rounds.

        The best number of rounds has the lowest mean log loss over the folds; only rounds that all folds reached count.

        Args:
            place: the place of the candidate.
            folds: the folds of the result; by default all whole folds.
            rounds: the number of rounds; by default the fixed number, or else the best number.
        """
        curves = [self._curves[place, fold] for fold in folds or self._whole]
        rounds = rounds or self._candidates[place].rounds
        if rounds is None:
            shortest = min(map(len, curves))
            rounds = int(np.mean([curve[:shortest] for curve in curves], axis=0).argmin()) + 1
        return Measured(rounds, [curve[rounds - 1] for curve in curves])

    def _has(self, place: int, folds: Sequence[Fold]) -> bool:
        return all((place, fold) in self._curves for fold in folds)

    def _fit(self, places: Sequence[int], folds: Sequence[Fold], until: float) -> None:
        """Fit the candidates on the folds where they are not fitted yet, in this order. Begin no fit after `until`."""
        wanted = [(place, fold) for place in places for fold in folds]
        fits = [one for one in wanted if one not in self._curves]
        self._tell(len(wanted) - len(fits))

        def in_time() -> Iterator[Any]:
            for place, fold in fits:
                if time.monotonic() > until:
                    self.cut_short = True
                    return
                candidate = self._candidates[place]
                yield delayed(fold.log_losses)(candidate.params, candidate.rounds, candidate.at_least)

        # There are fewer results than fits if the time ends.
        for losses, one in zip(self._side_by_side(in_time()), fits, strict=False):
            self._curves[one] = losses
            self._tell(1)

    def _tell(self, fits: int) -> None:
        self._done += fits
        if fits and self._progress:
            self._progress(self._done, self._most)

    def _fits(self) -> int:
        """Return the number of fits of a race whose time suffices for all rungs."""
        fits, racing = self._carried * len(self._whole), len(self._candidates) - self._carried
        for number, folds in enumerate(self._rungs, start=1):
            kept = _kept(number, racing)
            if number == len(self._rungs) or kept < racing:
                fits += racing * len(folds)
            racing = kept
        return fits


def _kept(number: int, racing: int) -> int:
    """Return the number of candidates that go on from a rung."""
    return racing if number == len(_RUNGS) else math.ceil(racing * _KEPT)


def _on(rung: _Rung, folds: Sequence[Fold]) -> list[Fold]:
    """Return the folds of a rung, with at least _FEWEST_TESTED test rows if the folds have that many."""
    count = len(folds) if rung.all_folds else 1
    while count < len(folds) and sum(fold.tested for fold in folds[-count:]) < _FEWEST_TESTED:
        count += 1
    return [fold.newest(max(_FEWEST_ROWS, int(fold.rows * rung.rows))) for fold in folds[-count:]]
