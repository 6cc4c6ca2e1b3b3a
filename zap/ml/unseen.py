"""Probabilities in another order of types, and probabilities of types that are not in the training sessions."""

from collections.abc import Sequence

import numpy as np


def align(
    probabilities: np.ndarray, classes: Sequence[str], every: Sequence[str], trained_on: int | None = None
) -> np.ndarray:
    """Return the probabilities of all types in `every`, from a model or a baseline that knows only `classes`.

    Args:
        probabilities: float64 of shape (n, classes).
        classes: the types of the columns of `probabilities`.
        every: the types of the returned columns; it contains all of `classes`.
        trained_on: the number of training sessions, from which the probability of the other types follows. With None
            the other types get the probability 0.
    """
    places = [every.index(name) for name in classes]
    wide = np.zeros((len(probabilities), len(every)))
    wide[:, places] = probabilities
    return wide if trained_on is None else with_unseen_types(wide, np.isin(np.arange(len(every)), places), trained_on)


def with_unseen_types(probabilities: np.ndarray, seen: np.ndarray, trained_on: int) -> np.ndarray:
    """Return the probabilities of all types, from a model or a baseline that knows only the seen types.

    An unseen type gets the probability 1 / (n + k), where n is the number of training sessions and k the number of all
    types (Laplace's rule of succession). The probabilities of the seen types become smaller in proportion, so that the
    sum is 1. If unseen types had a probability near 0, a single session of such a type would decide every comparison.

    Args:
        probabilities: float64 of shape (m, k); the values of unseen types are ignored.
        seen: for each of the k types, whether it is in the training sessions.
        trained_on: the number n of training sessions.
    """
    if seen.all():
        return probabilities
    each = 1 / (trained_on + len(seen))
    known = np.where(seen, probabilities, 0.0)
    shared: np.ndarray = known / known.sum(axis=1, keepdims=True) * (1 - each * np.count_nonzero(~seen))
    return np.where(seen, shared, each)
