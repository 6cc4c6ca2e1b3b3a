"""The fits of a race: the log losses of candidates on folds, fitted side by side, none twice."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from zap.ml.boosting import BoostingProgress
from zap.ml.candidate import Candidate, Measured
from zap.ml.folds import Fold


class Fits:
    """Fit candidates on folds, and keep the log losses. The result does not depend on the number of threads.

    Args:
        candidates: the candidates; the methods name a candidate by its place here.
        n_jobs: the number of fits in parallel, each on one thread.
        progress: called with the number of finished fits, and with `most`.
        most: the largest number of fits.

    Attributes:
        cut_short: whether the time ended before all fits were done.
    """

    def __init__(
        self, candidates: Sequence[Candidate], n_jobs: int, progress: BoostingProgress | None, most: int
    ) -> None:
        self._candidates = candidates
        # Parallel fits on one thread each do not wait for each other, whereas the threads of a single fit do.
        self._side_by_side = Parallel(
            n_jobs=n_jobs, prefer="threads", return_as="generator", batch_size=1, pre_dispatch="n_jobs"
        )
        self.cut_short = False
        self._curves: dict[tuple[int, Fold], list[float]] = {}
        self._progress, self._done, self._most = progress, 0, most

    def fit(self, places: Sequence[int], folds: Sequence[Fold], until: float) -> None:
        """Fit the candidates on the folds where they are not fitted yet, in this order. Begin no fit after `until`.

        Args:
            places: the places of the candidates.
            folds: the folds.
            until: a time of `time.monotonic`.
        """
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

    def has(self, place: int, folds: Sequence[Fold]) -> bool:
        """Return whether a candidate is fitted on all of these folds."""
        return all((place, fold) in self._curves for fold in folds)

    def measured(self, place: int, folds: Sequence[Fold], rounds: int | None = None) -> Measured:
        """Return the result of a candidate after `rounds` rounds, or else after the best number of rounds.

        The best number of rounds has the lowest mean log loss over the folds; only rounds that all folds reached count.

        Args:
            place: the place of the candidate.
            folds: the folds of the result.
            rounds: the number of rounds; by default the fixed number, or else the best number.
        """
        curves = [self._curves[place, fold] for fold in folds]
        rounds = rounds or self._candidates[place].rounds
        if rounds is None:
            shortest = min(map(len, curves))
            rounds = int(np.mean([curve[:shortest] for curve in curves], axis=0).argmin()) + 1
        return Measured(rounds, [curve[rounds - 1] for curve in curves])

    def _tell(self, fits: int) -> None:
        self._done += fits
        if fits and self._progress:
            self._progress(self._done, self._most)
