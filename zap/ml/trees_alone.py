"""TreesAlone: the scorer of the estimator "lightgbm". An evaluation compares it with the blend."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightgbm
import numpy as np

from zap.ml.blend import Blend
from zap.ml.trees import Trees


class TreesAlone:
    """LightGBM's trees as a scorer, with the blend that the training fitted too. Any thread may use it.

    Attributes:
        booster: the LightGBM booster.
        weight: 0, because the logistic regression does not answer.

    Args:
        trees: the trees.
        blend: the blend of these trees, which never answers; None in a version of an older zap.
    """

    weight = 0.0

    def __init__(self, trees: Trees, blend: Blend | None) -> None:
        self.booster: lightgbm.Booster = trees.booster
        self.digest, self.score_row, self.score = trees.digest, trees.score_row, trees.score
        self._trees, self._blend = trees, blend

    @classmethod
    def from_data(cls, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the scorer that was stored as data; `Scorer.from_data` defines the arguments and errors."""
        trees, beside = Trees.from_data(data, columns, classes), data.get("beside")
        return cls(trees, beside and Blend.beside(trees, beside, columns, classes))

    def with_trees(self, trees: Trees) -> Self:
        """Return the scorer with other trees."""
        return type(self)(trees, self._blend and self._blend.with_trees(trees))

    def data(self) -> dict[str, Any]:
        """Return the data of the trees, and of the logistic regression beside them."""
        return {**self._trees.data(), **({"beside": self._blend.of_logistic()} if self._blend else {})}

    def score_parts(self, matrix: np.ndarray, threads: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the result of `score`, and the parts of the blend, `Blend.score_parts`; {} without a blend."""
        if self._blend is None:
            return self.score(matrix, threads), {}
        _, parts = self._blend.score_parts(matrix, threads)
        return parts["trees"].copy(), parts
