"""From a cleaned history to a fitted model and what it is worth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import UnusableHistory
from zap.ml.evaluation import evaluate
from zap.ml.history import History
from zap.ml.model import ChargerTypeModel, Rounds, known_categories

TEST_SHARE = 0.1
# Below this a test part of 10 % says nothing at all.
FEWEST_SESSIONS = 50


@dataclass(frozen=True)
class Split:
    """The cleaned sessions in time order; the first `n_train` are trained on."""

    frame: pd.DataFrame
    n_train: int

    @property
    def train(self) -> pd.DataFrame:
        return self.frame.iloc[: self.n_train]

    @property
    def test(self) -> pd.DataFrame:
        return self.frame.iloc[self.n_train :]


def split_by_time(history: History) -> Split:
    """The first 90 % to train, the last 10 % to test.

    Raises:
        UnusableHistory: too few sessions, or a single charger type among those to train on.
    """
    frame = history.frame
    if len(frame) < FEWEST_SESSIONS:
        raise UnusableHistory(
            f"{len(frame)} usable sessions in ChargingSessions, at least {FEWEST_SESSIONS} are needed;"
            " zap import-history or zap sample-history adds some",
            dropped=history.dropped.as_dict(),
        )
    split = Split(frame, n_train=int(round(len(frame) * (1 - TEST_SHARE), 6)))
    types = split.train["charger_type"].unique().tolist()
    if len(types) < 2:
        raise UnusableHistory(
            f"the {split.n_train} sessions to train on have only one charger type, {types[0]!r};"
            " two or more are needed",
            dropped=history.dropped.as_dict(),
        )
    return split


def fit(split: Split, *, n_jobs: int, progress: Rounds | None = None) -> ChargerTypeModel:
    """A model of the first 90 %. What may be asked of it are the categories of the whole history, not of a part."""
    return ChargerTypeModel(n_jobs=n_jobs).fit(
        split.train, split.train["charger_type"], categories=known_categories(split.frame), progress=progress
    )


def score(split: Split, model: ChargerTypeModel) -> dict[str, Any]:
    """The evaluation of `model` on the last 10 %, beside what guessing scores there."""
    classes = [str(name) for name in model.classes_]
    return evaluate(split.frame, split.n_train, classes, model.predict_proba(split.test))


def train_predictions(split: Split, model: ChargerTypeModel) -> np.ndarray:
    """The model's probabilities for the rows it was trained on; shape (n_train, classes)."""
    return model.predict_proba(split.train)
