"""The rungs of a race: few rows of the newest fold first, at last all rows of all folds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

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


def folds_of_rungs(folds: Sequence[Fold]) -> list[list[Fold]]:
    """Return for each rung its folds. Rungs share the objects of whole folds.

    Args:
        folds: all folds, in time order.
    """
    return [_on(rung, folds) for rung in _RUNGS]


def kept(number: int, racing: int) -> int:
    """Return the number of candidates that go on from a rung.

    Args:
        number: the number of the rung, from 1.
        racing: the number of candidates on the rung.
    """
    return racing if number == len(_RUNGS) else math.ceil(racing * _KEPT)


def _on(rung: _Rung, folds: Sequence[Fold]) -> list[Fold]:
    """Return the folds of a rung, with at least _FEWEST_TESTED test rows if the folds have that many."""
    count = len(folds) if rung.all_folds else 1
    while count < len(folds) and sum(fold.tested for fold in folds[-count:]) < _FEWEST_TESTED:
        count += 1
    return [fold.newest(max(_FEWEST_ROWS, int(fold.rows * rung.rows))) for fold in folds[-count:]]
