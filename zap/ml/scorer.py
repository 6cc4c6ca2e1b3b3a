"""Scorer: the fitted part of a model version that turns rows into probabilities. A training fits one kind of scorer.

To add a kind of scorer, write a class in a new file, add it to SCORERS, and call its fit in `scorer_fit.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import lightgbm
import numpy as np

from zap.errors import DamagedModel
from zap.ml.blend import Blend
from zap.ml.trees import Trees
from zap.ml.trees_alone import TreesAlone
from zap.sentences import say


class Scorer(Protocol):
    """A fitted scorer for rows of a model's columns. Any thread may use it.

    Attributes:
        booster: the LightGBM booster. The importances and the contributions of columns describe its trees.
        weight: for drivers with a past, the weight of the part beside the trees, 0 to 1; the trees have the rest.
    """

    booster: lightgbm.Booster
    weight: float

    @classmethod
    def from_data(cls, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the scorer that was stored as data.

        Args:
            data: the result of the scorer's method `data`.
            columns: the names of the columns of a row.
            classes: the charger types, two or more.

        Raises:
            DamagedModel: the data cannot be used, or it is for other columns or classes.
        """

    def score_row(self, row: bytes) -> list[float]:
        """Return the probabilities of the classes for one row.

        Args:
            row: one float64 number for each column, in the machine's byte order. The length is not checked.
        """

    def score(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Return probabilities of shape (n, classes) for a float64 matrix of shape (n, columns).

        The probabilities are bit-identical to the results of `score_row`. `threads` is the number of threads to use.
        """

    def with_trees(self, trees: Trees) -> Self:
        """Return the scorer with other trees."""

    def score_parts(self, matrix: np.ndarray, threads: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the result of `score`, and the probabilities of each part and of the blend, by name.

        The scorer of a version of an older zap may have no parts. The dictionary is empty then.

        Args:
            matrix: as in `score`.
            threads: as in `score`.
        """

    def data(self) -> dict[str, Any]:
        """Return the scorer as data that JSON can hold."""

    def digest(self) -> str:
        """Return the SHA-256 of the learned data. Two trainings with equal results have equal digests."""


# Each kind of scorer, by its name in artefacts, which is the estimator's name.
SCORERS: dict[str, type[Scorer]] = {"blend": Blend, "lightgbm": TreesAlone}


def read_scorer(data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Scorer:
    """Return the scorer of an artefact.

    Args:
        data: the result of `scorer_data`.
        columns: as in `Scorer.from_data`.
        classes: as in `Scorer.from_data`.

    Raises:
        DamagedModel: this code does not know the kind of the scorer, or as in `Scorer.from_data`.
    """
    if data["kind"] not in SCORERS:
        raise DamagedModel(
            say("the artefact has a scorer of the kind {kind!r}, which this code does not know", kind=data["kind"])
        )
    return SCORERS[data["kind"]].from_data(data, columns, classes)


def scorer_data(scorer: Scorer) -> dict[str, Any]:
    """Return the data of a scorer together with its kind, as an artefact holds them."""
    (kind,) = (name for name, one in SCORERS.items() if one is type(scorer))
    return {"kind": kind, **scorer.data()}
