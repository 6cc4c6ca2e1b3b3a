"""The learned weight for drivers without a past: a scorer of the earlier rows is tested on the later rows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.cold import is_cold, mixes, witnessed_weight
from zap.ml.scorer import fit_scorer
from zap.ml.unseen import with_unseen_types

# The weight is tested on the last rows, which are this share of all rows. A scorer learns from the rows before them.
# Both parts have at most _COLD_ROWS rows, the rows that are nearest to the other part.
_COLD_SHARE = 0.2
_COLD_ROWS = 10_000
# If fewer test rows than this have a driver without a past, all drivers of the test rows count as new, so that there
# are enough test rows.
_FEWEST_COLD = 20


def learned_weight(  # noqa: PLR0913, PLR0917
    params: Mapping[str, Any],
    frame: pd.DataFrame,
    matrix: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    as_new: Callable[[pd.DataFrame], np.ndarray],
) -> float:
    """Return the weight of the scorer for drivers without a past, 0 to 1.

    A scorer of the earlier rows is tested on the later rows of drivers without a past, and `witnessed_weight` computes
    the weight from the result. If the earlier rows have a single type, the weight is 0.

    Args:
        params: the parameters of ChargerTypeModel.
        frame: n training rows, in order of start; the column `user_id` names the drivers.
        matrix: the matrix of the rows.
        codes: the codes of their types.
        n_classes: the number of types.
        as_new: returns the matrix of some rows of the frame, as if their drivers had no past.
    """
    cut = round(len(codes) * (1 - _COLD_SHARE))
    earlier = slice(max(0, cut - _COLD_ROWS), cut)
    if len(np.unique(codes[earlier])) < 2:
        return 0.0
    cold = (cut + np.flatnonzero(is_cold(matrix[cut:], n_classes)))[:_COLD_ROWS]
    asked = matrix[cold]
    if len(cold) < _FEWEST_COLD:
        cold = np.arange(cut, len(codes))[:_COLD_ROWS]
        asked = as_new(frame.iloc[cold])
    scorer, _ = fit_scorer(params, matrix[earlier], codes[earlier], n_classes)
    found = with_unseen_types(
        scorer.score(asked, params["n_jobs"]),
        np.isin(np.arange(n_classes), codes[earlier]),
        len(codes[earlier]),
    )
    used = codes[cold, None]
    chances, shares = (np.take_along_axis(one, used, axis=1)[:, 0] for one in (found, mixes(asked, n_classes)))
    return witnessed_weight(chances, shares, _drivers(frame.iloc[cold]))


def _drivers(frame: pd.DataFrame) -> np.ndarray:
    """Return the drivers of n rows as codes without gaps. Each row without a user counts as another driver."""
    if "user_id" not in frame:
        return np.arange(len(frame))
    codes, users = pd.factorize(frame["user_id"])
    alone = codes < 0
    codes[alone] = len(users) + np.arange(alone.sum())
    return codes
