"""ChargerTypeModel: the estimator that is trained, saved, served and handed to data scientists."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import joblib
import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from zap.errors import DamagedModel
from zap.ml.features import CATEGORIES, FEATURES, MATRIX_COLUMNS, NUMBERS, build_features, check_features

# Called with the boosting round that ended and the number of rounds.
Rounds = Callable[[int, int], None]
# The known values of each category feature.
Categories = Mapping[str, Sequence[str]]


class ChargerTypeModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """A LightGBM classifier over raw natural-unit columns (FEATURES), scikit-learn style.

    The parameters are LightGBM's; the defaults were found by an earlier search on ZapApp's history.

    Attributes after `fit`:
        classes_: the charger types, sorted; the columns of `predict_proba`.
        feature_names_in_: the columns that a frame must have.
        contract_: what a request must carry: for each field `required`, `nullable` or `ignored`, and the known
            values of each category.
        booster_: the fitted LightGBM booster.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn reads the parameters from this signature
        self,
        *,
        n_estimators: int = 200,
        num_leaves: int = 40,
        learning_rate: float = 0.05,
        max_depth: int = -1,
        colsample_bytree: float = 0.8,
        subsample: float = 1.0,
        reg_alpha: float = 1.0,
        reg_lambda: float = 0.0,
        random_state: int = 42,
        n_jobs: int = 2,
    ) -> None:
        self.n_estimators = n_estimators
        self.num_leaves = num_leaves
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.colsample_bytree = colsample_bytree
        self.subsample = subsample
        self.reg_alpha = reg_alpha
        self.reg_lambda = reg_lambda
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        categories: Categories | None = None,
        progress: Rounds | None = None,
    ) -> Self:
        """Fit on n cleaned sessions and the charger types that their drivers used.

        Args:
            X: n rows of FEATURES.
            y: n charger types.
            categories: the known values of each category feature; by default those in X. A value that no row of X
                has is accepted later and counts as missing.
            progress: called after each boosting round.

        Raises:
            ValueError: when fewer than two types are there, or a column of X cannot be known before a session.
        """
        self.classes_, codes = np.unique(np.asarray(y, dtype=object).astype(str), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"two or more charger types are needed; the sessions have only {self.classes_.tolist()}")
        names = [feature.name for feature in FEATURES]
        check_features(names)
        self.feature_names_in_ = np.array(names, dtype=object)
        self.contract_: dict[str, Any] = {"fields": _fields(X), "categories": dict(categories or known_categories(X))}
        binary = len(self.classes_) == 2
        booster = lightgbm.train(
            {
                "objective": "binary" if binary else "multiclass",
                **({} if binary else {"num_class": len(self.classes_)}),
                **self.get_params(),
                # The same rows, seed, versions and machine type give the same trees.
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            },
            lightgbm.Dataset(
                self._matrix(X),
                codes,
                feature_name=list(MATRIX_COLUMNS),
                categorical_feature=[feature.name for feature in CATEGORIES],
            ),
            callbacks=[lambda env: progress(env.iteration + 1, env.end_iteration)] if progress else [],
        )
        # What answers now must be what answers after a load, to the bit.
        self.booster_ = lightgbm.Booster(model_str=booster.model_to_string())
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        """Probabilities of shape (n, len(classes_)) for n rows of natural-unit columns.

        A value outside the range of its column counts as missing, as in a training; so does a `vehicle_model` column
        that is not there.

        Raises:
            ValueError: other columns are not there, or a row has no start.
        """
        check_is_fitted(self)
        return self.probabilities(self._matrix(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        """The most probable charger type of each of n rows."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def probabilities(self, matrix: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """Probabilities of shape (n, len(classes_)) for a matrix made by `build_features`."""
        raw = np.asarray(self.booster_.predict(matrix, num_threads=threads or self.n_jobs))
        return np.column_stack([1.0 - raw, raw]) if raw.ndim == 1 else raw

    def codes(self) -> dict[str, dict[str, int]]:
        """For each category feature the code of every known value."""
        known = self.contract_["categories"]
        return {name: {value: code for code, value in enumerate(values)} for name, values in known.items()}

    def to_bytes(self) -> tuple[bytes, str]:
        """The artefact and its SHA-256 in hex."""
        buffer = io.BytesIO()
        joblib.dump(self, buffer, compress=3)
        artefact = buffer.getvalue()
        return artefact, sha256(artefact)

    @staticmethod
    def from_bytes(artefact: bytes, digest: str) -> "ChargerTypeModel":
        """The model in an artefact, once its bytes are those that were stored: nothing else is ever unpickled.

        Raises:
            DamagedModel: the digest differs, or the artefact was made for other features than this code has.
        """
        if sha256(artefact) != digest:
            raise DamagedModel(
                f"the artefact's SHA-256 is {sha256(artefact)}, stored was {digest}; promote or train another version"
            )
        try:
            model: ChargerTypeModel = joblib.load(io.BytesIO(artefact))
        except Exception as error:  # unpickling for other packages than it was pickled for may raise anything
            raise DamagedModel(f"the artefact does not load with these packages ({error}); train again") from error
        expected = [feature.name for feature in FEATURES]
        if list(model.feature_names_in_) != expected or model.booster_.feature_name() != list(MATRIX_COLUMNS):
            differing = sorted(set(expected).symmetric_difference(model.feature_names_in_))
            raise DamagedModel(f"the artefact was trained on other features ({differing}); train again with this code")
        return model

    def _matrix(self, frame: pd.DataFrame) -> np.ndarray:
        absent = [feature.name for feature in FEATURES if feature.name not in frame]
        frame = frame.assign(**{name: None for name in absent if name == "vehicle_model"})
        if needed := [name for name in absent if name not in frame]:
            raise ValueError(f"the frame has no column {', '.join(needed)}")
        columns = {feature.name: frame[feature.name].to_numpy() for feature in FEATURES}
        for feature in NUMBERS:
            columns[feature.name] = feature.masked(frame[feature.name].to_numpy(dtype=np.float64, na_value=np.nan))
        return build_features(columns, self.codes())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def known_categories(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The values of each category feature in a cleaned frame, sorted."""
    return {feature.name: sorted(frame[feature.name].dropna().unique().tolist()) for feature in CATEGORIES}


def _fields(frame: pd.DataFrame) -> dict[str, str]:
    """What a request must carry, from what the cleaned training rows carried.

    Trees that never saw a value missing would read the missing one as zero, so it must not be.
    """
    fields = {}
    for feature in FEATURES:
        missing = frame[feature.name].isna()
        fields[feature.name] = "ignored" if missing.all() else "nullable" if missing.any() else "required"
    return fields
