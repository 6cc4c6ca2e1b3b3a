"""A race of candidates over folds: all start on few rows, and the best third goes on to more rows and more folds."""

import math
from collections.abc import Sequence

from zap.ml.boosting import BoostingProgress
from zap.ml.candidate import Candidate, GivenUp, Measured
from zap.ml.fits import Fits
from zap.ml.folds import Fold
from zap.ml.rungs import folds_of_rungs, kept


class Race:
    """A race over folds. The result does not depend on the number of threads.

    Args:
        candidates: the candidates. The first `carried` candidates are tried on all folds, the other candidates race.
        carried: the number of candidates that do not race.
        folds: the folds in time order.
        n_jobs: the number of fits in parallel, each on one thread.
        progress: called with the number of finished fits, and the largest number of fits.

    Attributes:
        most_fits: the largest number of fits.
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
        self._rungs = folds_of_rungs(self._whole)
        self.most_fits = self._most_fits()
        self._fits = Fits(candidates, n_jobs, progress, self.most_fits)

    @property
    def cut_short(self) -> bool:
        """Return whether the time ended before all fits were done."""
        return self._fits.cut_short

    def carry(self) -> None:
        """Try the defaults and the incumbent on all folds, without a time limit."""
        self._fits.fit(range(self._carried), self._whole, math.inf)

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
            most = kept(number, len(going_on))
            if number < len(self._rungs) and most == len(going_on):
                continue
            self._fits.fit(going_on, folds, begin + 60 * minutes * number / len(self._rungs))
            found = {place: self._fits.measured(place, folds) for place in going_on if self._fits.has(place, folds)}
            ranked = sorted(found, key=lambda place: found[place].log_loss)
            for place in ranked:
                loss = found[place].log_loss
                behind = loss - found[ranked[0]].log_loss
                outcomes[place] = GivenUp(len(folds), max(fold.rows for fold in folds), loss, behind)
            going_on = ranked[:most]
        for place in range(len(self._candidates)):
            if self._fits.has(place, self._whole):
                outcomes[place] = self.measured(place)
        return outcomes

    def measured(self, place: int, rounds: int | None = None) -> Measured:
        """Return the result of a candidate on all whole folds; `Fits.measured` defines the arguments."""
        return self._fits.measured(place, self._whole, rounds)

    def _most_fits(self) -> int:
        """Return the number of fits of a race whose time suffices for all rungs."""
        fits, racing = self._carried * len(self._whole), len(self._candidates) - self._carried
        for number, folds in enumerate(self._rungs, start=1):
            most = kept(number, racing)
            if number == len(self._rungs) or most < racing:
                fits += racing * len(folds)
            racing = most
        return fits
