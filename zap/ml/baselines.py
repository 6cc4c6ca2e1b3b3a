"""Baselines: answers without a model. A model has to beat every baseline.

The prior is the usual mix of types. Three baselines are shares of the driver: over all sessions, by time of day, and
with more weight on recent sessions. The pooled shares combine the four shares that the history keeps of a driver. Each
share has an exponent that is fitted on the training sessions.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from zap.ml.history_columns import driver_column, type_columns
from zap.sentences import phrase

# The baselines that are smoothed shares of the driver, and the history columns that hold the shares.
SHARES = {
    "driver_share": "share",
    "driver_share_time_of_day": "share_time_of_day",
    "driver_share_recent": "share_recent",
}
POOLED = "pooled_shares"
BASELINES = ("prior", *SHARES, POOLED)
# The names for messages. If no driver has a past, all shares equal the mix; `_OF_THE_DAYS_BEFORE` is its name.
IN_WORDS = {
    "prior": phrase("the usual mix of types"),
    "driver_share": phrase("the driver's own past share of types"),
    "driver_share_time_of_day": phrase("the driver's own past share of types at that time of day"),
    "driver_share_recent": phrase("the driver's own recent share of types"),
    POOLED: phrase("the driver's own past shares of types, pooled"),
}
_OF_THE_DAYS_BEFORE = phrase("the mix of types on the days before")

# The columns of the pooled shares.
SHARE_COLUMNS = ("share", "share_time_of_day", "share_day_kind", "share_recent")
# The newest sessions are the most similar to future sessions, and four exponents need no more rows.
_MOST_ROWS = 50_000


def in_words(baseline: str, *, past_known: bool) -> str:
    """Return the name of a baseline for a message.

    Args:
        baseline: one of BASELINES.
        past_known: whether any driver in the test sessions has a past.
    """
    return IN_WORDS[baseline] if past_known or baseline == "prior" else _OF_THE_DAYS_BEFORE


def fit_exponents(past: np.ndarray, codes: np.ndarray, n_types: int) -> np.ndarray:
    """Fit the exponents with the lowest log loss on the training sessions.

    Args:
        past: the history columns of n training sessions, as `history_matrix.past_features` returns them.
        codes: n codes of the types that the drivers used.
        n_types: how many types there are.

    Returns:
        float64 of shape (4,). If no session has a driver with a past, each exponent is 1/4.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - a server needs only the names of the baselines

    known = np.flatnonzero(past[:, driver_column("sessions", n_types)] > 0)[-_MOST_ROWS:]
    even = np.full(len(SHARE_COLUMNS), 1 / len(SHARE_COLUMNS))
    if not len(known):
        return even
    shares, used = _log_shares(past[known], n_types), codes[known]
    chosen = shares[np.arange(len(known)), used]

    def loss(exponents: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean log loss and its gradient. A penalty of one session's weight pulls the exponents to 1/4."""
        probabilities = _softmax(shares @ exponents)
        away = exponents - even
        mean = -np.log(probabilities[np.arange(len(used)), used]).sum() + away @ away
        expected = np.einsum("nt,ntc->nc", probabilities, shares)
        return mean / len(used), ((expected - chosen).sum(axis=0) + 2 * away) / len(used)

    found: np.ndarray = minimize(loss, even, jac=True, method="L-BFGS-B").x
    return found


def baseline_probabilities(past: np.ndarray, mix: Sequence[float], exponents: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return the probabilities of each baseline in BASELINES for n sessions, each of shape (n, types).

    Args:
        past: the history columns of the sessions.
        mix: the share of each type in the training sessions.
        exponents: the result of `fit_exponents` for the training sessions.
    """
    k = len(mix)
    shares = {column: past[:, type_columns(column, k)] for column in SHARE_COLUMNS}
    return baselines_of_shares(shares, past[:, driver_column("sessions", k)] == 0, mix, exponents)


def baselines_of_shares(
    shares: Mapping[str, np.ndarray],
    new: np.ndarray,
    mix: Sequence[float],
    exponents: Sequence[float] | np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Return the probabilities of each baseline that can be computed, each of shape (n, types).

    A session has the same bits in the result whatever sessions are beside it.

    Args:
        shares: for columns of SHARE_COLUMNS the shares of the types, of shape (n, types).
        new: for each of n sessions whether its driver has no past.
        mix: the share of each type in the training sessions.
        exponents: the result of `fit_exponents`; None if it is not known.
    """
    said = {name: shares[column] for name, column in SHARES.items() if column in shares}
    said["prior"] = np.tile(np.asarray(mix, dtype=np.float64), (len(new), 1))
    if exponents is not None and all(column in shares for column in SHARE_COLUMNS):
        # A product of matrices would round a session differently with other sessions beside it.
        scores = sum(
            np.log(shares[column]) * exponent for column, exponent in zip(SHARE_COLUMNS, exponents, strict=True)
        )
        # The four shares of a driver without a past all equal the mix; pooling would only sharpen or flatten it.
        said[POOLED] = np.where(new[:, None], shares["share"], _softmax(np.asarray(scores)))
    return {name: said[name] for name in BASELINES if name in said}


def _log_shares(past: np.ndarray, n_types: int) -> np.ndarray:
    """Return the logarithms of the four shares, of shape (n, types, 4)."""
    logs: np.ndarray = np.log(np.stack([past[:, type_columns(column, n_types)] for column in SHARE_COLUMNS], axis=2))
    return logs


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    softmax: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return softmax
