"""Missing values: one rule for all columns.

While LightGBM finds the bins of a column, it decides whether the column can have missing values. If its sample has no
missing value, LightGBM later reads a missing value as 0: as the first type, as 0 hours, as 0 °C. In a tree node that
saw no missing value, the direction for missing values is not learned: LightGBM treats them as the smallest values, such
as the coldest day or the shortest time.

Therefore a column with fewer than FEWEST_HOLES missing values follows the rule of scikit-learn's
HistGradientBoostingClassifier: "if no missing values were encountered for a given feature during training, then samples
with missing values are mapped to whichever child has the most samples". A few missing values teach a tree nothing: a
single row would decide by its own label. `to_larger_children` writes the rule into the trees. For the other columns the
trees learn the direction of a missing value, and `binned` makes sure that LightGBM sees missing values.

In a column with many missing values, a node that saw no missing value keeps LightGBM's direction.

Categories need no rule: LightGBM treats a missing value like a value that the training never had.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np

# This is LightGBM's default for the fewest rows in a leaf. In sample histories with fewer missing values the rule of
# the larger child has the lower log loss; with more missing values the learned direction has.
FEWEST_HOLES = 20
# LightGBM's default for the number of rows in which it looks for bins.
_MOST_BINNED = 200_000
# How many rows are searched for missing values at a time.
_CHUNK = 50_000


def binned(  # noqa: PLR0913, PLR0917
    matrix: np.ndarray,
    codes: np.ndarray,
    params: Mapping[str, Any],
    names: Sequence[str],
    categories: Sequence[str],
    few: Collection[int],
) -> lightgbm.Dataset:
    """Return a LightGBM dataset in which every column with many missing values has a bin for them.

    Args:
        matrix: float64 of shape (n, columns); it is not copied.
        codes: n codes of classes.
        params: LightGBM's parameters for the training.
        names: the names of the columns.
        categories: the names of the columns that hold codes of categories.
        few: the places of the columns with few missing values; these columns need no bin.
    """
    columns: dict[str, Any] = {
        "feature_name": list(names),
        "categorical_feature": list(categories),
        "params": dict(params),
    }
    if len(matrix) <= _MOST_BINNED:
        # LightGBM looks for bins in all rows.
        return lightgbm.Dataset(matrix, codes, **columns)
    # Take rows evenly in time, and add one row with a missing value in every column that is not in `few`.
    some = np.ascontiguousarray(matrix[:: -(-len(matrix) // (_MOST_BINNED - 1))])
    one = np.where(np.isin(np.arange(matrix.shape[1]), list(few)), matrix[0], np.nan)[None]
    reference = lightgbm.Dataset([some, one], np.zeros(len(some) + 1), **columns)
    return lightgbm.Dataset(matrix, codes, reference=reference, **columns).construct()


def few_holes(matrix: np.ndarray) -> tuple[set[int], np.ndarray]:
    """Return the columns with fewer than FEWEST_HOLES missing values, and the rows that have these missing values.

    Args:
        matrix: float64 of shape (n, columns).

    Returns:
        The places of the columns, and the places of the rows: at most FEWEST_HOLES - 1 rows for each column.
    """
    counts = np.zeros(matrix.shape[1], dtype=np.int64)
    for start in range(0, len(matrix), _CHUNK):
        counts += np.isnan(matrix[start : start + _CHUNK]).sum(axis=0)
    columns = np.flatnonzero(counts < FEWEST_HOLES)
    rows = [np.flatnonzero(np.isnan(matrix[:, column])) for column in columns[counts[columns] > 0]]
    return set(columns.tolist()), np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


def without_rare_holes(matrix: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return rows in which the median replaces a missing value, in columns with few missing values in training.

    The boosters of a search are tested during boosting, before `to_larger_children` can edit them. At a node that
    splits all rows the median goes to the larger child, so it approximates the rule.

    Args:
        matrix: float64 of shape (n, columns); it is not changed.
        trained: the training rows, of shape (m, columns), from which the medians are taken.
    """
    few, _ = few_holes(trained)
    places = [
        place for place in sorted(few) if np.isnan(matrix[:, place]).any() and not np.isnan(trained[:, place]).all()
    ]
    if not places:
        return matrix
    filled = matrix.copy()
    for place in places:
        column = filled[:, place]
        column[np.isnan(column)] = np.nanmedian(trained[:, place])
    return filled
