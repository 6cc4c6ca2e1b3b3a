"""Bets against a mean: e-values and confidence bounds for scores between 0 and 1, without any other assumption.

The capital of a gambler who bets the share L of the stake on "the mean is above m" is K = prod (1 + L (x_i / m - 1)).
If the scores are independent and their mean is at most m, then E[K] <= 1. The gambler has several accounts with
different L, and e is the mean of their capitals (the grid Kelly bets of Waudby-Smith and Ramdas, Estimating means of
bounded random variables by betting, JRSS-B 2024, arXiv 2010.15757). It does not depend on the order of the scores, and
the scores need not have equal means: prod (1 + L (mu_i / m - 1)) <= 1 if the mean of all mu_i is at most m.
"""

import numpy as np

# The shares of the stake: small shares find small differences among many drivers.
_SHARES = np.geomspace(0.005, 0.95, 14)
_STEPS = 40


def log_capital(scores: np.ndarray, mean: float) -> float:
    """Return ln e of the bets that the mean of the scores is above a mean; 0.0 without scores.

    Args:
        scores: one score for each driver, 0 to 1.
        mean: the mean that is doubted, above 0.
    """
    logs = np.log1p(_SHARES[:, None] * (scores / mean - 1)).sum(axis=1)
    return float(np.logaddexp.reduce(logs) - np.log(len(_SHARES)))


def lower_bound(scores: np.ndarray, rate: float) -> float:
    """Return a number that the mean is below with at most this probability.

    It is the lowest mean against which the capital is below 1 / rate. The capital falls with the mean.

    Args:
        scores: one score for each driver, 0 to 1.
        rate: the probability of an error.
    """
    low, high = 0.0, float(scores.mean()) if len(scores) else 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle > 0 and log_capital(scores, middle) < -np.log(rate):
            high = middle
        else:
            low = middle
    return low


def upper_bound(scores: np.ndarray, rate: float) -> float:
    """Return a number that the mean is above with at most this probability, by the bets on 1 - x."""
    return 1 - lower_bound(1 - scores, rate)
