"""ChargerTypeModel: the estimator that zap trains, saves and serves, and that data scientists load."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from zap.ml.boosting import BoostingProgress
from zap.ml.cold import draw_to_mix, is_cold, mixes
from zap.ml.contract import Categories, check_order, check_rows, coded_types, learned_contract
from zap.ml.contributions import EXPECTED_VALUE, Kind, class_code, contributions, importances, warn_of_weightless
from zap.ml.estimator import DEFAULT_ESTIMATOR, Estimator, checked_parameters, stored_parameters
from zap.ml.features import FEATURES, MATRIX_COLUMNS, check_features
from zap.ml.fitted import FittedModel, column_places, computed_columns, sha256
from zap.ml.history import population_history, time_order
from zap.ml.learned_weights import learned_weights
from zap.ml.matrix import natural_columns, past_of_new_drivers, with_wall_times
from zap.ml.memory import release_memory
from zap.ml.pasts import Past, Pasts, check_frame, past_of
from zap.ml.population_now import ASKED_BEFORE_MINUTES
from zap.ml.scorer import read_scorer, scorer_data
from zap.ml.scorer_fit import fit_scorer


class ChargerTypeModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """A classifier with the interface of scikit-learn, for FEATURES in natural units and drivers' pasts.

    The parameter `estimator` is "blend" (the weighted mean of LightGBM's trees and a logistic regression on the
    drivers' shares) or "lightgbm" (the trees alone). `asked_before` says how many minutes before the start of a session
    its driver asks; with None, the present is missing. `delay` says how many minutes after their start sessions are
    stored. `left_out` names the groups of columns (`zap/ml/column_groups.py`) that the trees do not use. The other
    parameters are parameters of LightGBM; an earlier search on ZapApp's history found their defaults. For drivers
    without a past, the prediction is the weighted mean of the trees and the mix of types of the days before. Both
    weights are learned, see `zap/ml/learned_weights.py`.

    Attributes after `fit`:
        classes_: the charger types, sorted; the columns of `predict_proba`.
        feature_names_in_: the columns that a frame must have.
        contract_: what a request must carry: for each field `required`, `nullable` or `ignored`, and the known
            values of each category.
        columns_: the names of the booster's columns: MATRIX_COLUMNS and `history_columns(classes_)`.
        population_: the mixes of types on the days of the training rows.
        cold_weight_: the weight of the trees for drivers without a past, 0 to 1; the mix has the rest.
        scorer_: the fitted scorer, with its LightGBM booster `booster_`. For drivers with a past, the logistic
            regression has the weight `scorer_.weight`, 0 to 1; the trees have the rest.
    """

    # The history that `with_history` binds to the estimator. It is neither a parameter nor a result of a fit.
    _pasts: Pasts | None = None

    def __init__(  # noqa: PLR0913 - scikit-learn reads the parameters from this signature
        self,
        *,
        estimator: Estimator = DEFAULT_ESTIMATOR,
        asked_before: int | None = ASKED_BEFORE_MINUTES,
        delay: int = 0,
        left_out: Sequence[str] = (),
        n_estimators: int = 200,
        num_leaves: int = 40,
        learning_rate: float = 0.05,
        max_depth: int = -1,
        colsample_bytree: float = 0.8,
        subsample: float = 1.0,
        min_child_samples: int = 20,
        reg_alpha: float = 1.0,
        reg_lambda: float = 0.0,
        random_state: int = 42,
        n_jobs: int = 2,
    ) -> None:
        self.estimator, self.left_out, self.asked_before, self.delay = estimator, left_out, asked_before, delay
        self.n_estimators, self.num_leaves, self.learning_rate = n_estimators, num_leaves, learning_rate
        self.max_depth, self.colsample_bytree, self.subsample = max_depth, colsample_bytree, subsample
        self.min_child_samples, self.reg_alpha, self.reg_lambda = min_child_samples, reg_alpha, reg_lambda
        self.random_state, self.n_jobs = random_state, n_jobs

    def fit(  # noqa: PLR0913
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: Past | None = None,
        history: pd.DataFrame | None = None,
        categories: Categories | None = None,
        progress: BoostingProgress | None = None,
    ) -> Self:
        """Fit the model to n cleaned sessions and the charger types that their drivers used.

        The rows are sorted by start, and by session_id if X has that column, so the order of the rows does not change
        the model. No argument is changed.

        Args:
            X: n rows of FEATURES. The column `user_id` names the drivers; a row without a user is a driver of its
                own, and without this column all drivers are new.
            y: n charger types.
            past: the history columns of each driver, from `history_matrix.past_features(frame, ...)`: float64 of shape
                (n, len(history_columns(types))).
            history: cleaned sessions from which each driver's past is computed, as in `predict_proba`. It may be X.
            categories: the known values of each category feature; by default the values in X. A prediction accepts a
                known value that no row of X has, and counts it as missing.
            progress: called a few times a second with the number of finished boosting rounds.

        Raises:
            ValueError: y has fewer than two types, a column of X cannot be known before a session, `y` or `past` does
                not match X, or X names drivers and neither a past nor a history is given.
        """
        self.fit_predict_proba(X, y, past=past, history=history, categories=categories, progress=progress)
        return self

    def fit_predict_proba(  # noqa: PLR0913
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: Past | None = None,
        history: pd.DataFrame | None = None,
        categories: Categories | None = None,
        progress: BoostingProgress | None = None,
    ) -> np.ndarray:
        """Fit the model as in `fit`. Return the probabilities of the n rows, bit-identical to `predict_proba`.

        LightGBM has these probabilities at the end of the boosting, whereas a prediction takes nearly as long as a fit.
        """
        check_rows(X, y)
        X = with_wall_times(X)  # noqa: N806
        order = time_order(X)
        if np.array_equal(order, np.arange(len(X))):
            return self._boosted(X, *self.prepare(X, y, past=past, history=history, categories=categories), progress)
        frame, used = X.iloc[order], np.asarray(y, dtype=object)[order]
        if past is not None and len(past) == len(X):
            past = past.iloc[order] if isinstance(past, pd.DataFrame) else past[order]
        matrix, codes = self.prepare(frame, used, past=past, history=history, categories=categories)
        found = self._boosted(frame, matrix, codes, progress)
        # The place of each row of X in the sorted rows.
        return found[np.argsort(order)]

    def fit_in_place(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        matrix: np.ndarray,
        *,
        categories: Categories | None = None,
        progress: BoostingProgress | None = None,
    ) -> np.ndarray:
        """Fit the model as in `fit_predict_proba`, but write into the given matrix instead of copying it.

        Args:
            X: n rows of FEATURES, in order of start.
            y: n charger types.
            matrix: the result of `history_matrix.past_matrix`, of shape (n, columns). MATRIX_COLUMNS are written into
                its empty columns.
            categories: as in `fit`.
            progress: as in `fit`.

        Raises:
            ValueError: as in `fit`, or the rows are not in order of start.
        """
        check_rows(X, y)
        check_order(X)
        codes = self.prepare_in_place(X, y, matrix, categories=categories)
        return self._boosted(X, matrix, codes, progress)

    def prepare(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: Past | None = None,
        history: pd.DataFrame | None = None,
        categories: Categories | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Do the first part of `fit`, for rows in order of start. Return the matrix and the codes of the types."""
        codes = self._learn_contract(X, y, categories)
        return self.matrix(X, self._past(X, past, history)), codes

    def prepare_in_place(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        matrix: np.ndarray,
        *,
        categories: Categories | None = None,
    ) -> np.ndarray:
        """Do the first part of `fit_in_place`, everything before the boosting. Return the n codes of the types."""
        codes = self._learn_contract(X, y, categories)
        if matrix.shape != (len(X), len(self.columns_)):
            raise ValueError(
                f"the matrix has the shape {matrix.shape}, but ({len(X)}, {len(self.columns_)}) is needed for"
                f" {len(X)} rows and the types {', '.join(self.classes_)}; make it with past_matrix of these types"
            )
        natural_columns(X, self.contract_, out=matrix[:, : len(MATRIX_COLUMNS)])
        return codes

    def _learn_contract(self, frame: pd.DataFrame, used: Any, categories: Categories | None) -> np.ndarray:
        """Set the attributes that need no boosting, and return the n codes of the types."""
        self.classes_, codes = coded_types(used)
        check_features(names := [feature.name for feature in FEATURES])
        self.feature_names_in_ = np.array(names, dtype=object)
        self.contract_: dict[str, Any] = learned_contract(frame, categories)
        types, starts = self.classes_.tolist(), frame["charging_start_time"].to_numpy()
        self.columns_ = computed_columns(types)
        self.population_ = population_history(starts, self.classes_.astype(object)[codes], types)
        return codes

    def _boosted(
        self, frame: pd.DataFrame, matrix: np.ndarray, codes: np.ndarray, progress: BoostingProgress | None
    ) -> np.ndarray:
        """Boost on rows in order of start. Return their probabilities, bit-identical to `predict_proba`."""
        params, k = checked_parameters(self.get_params()), len(self.classes_)
        weights = learned_weights(params, frame, matrix, codes, k, self.matrix)
        self.cold_weight_ = weights.cold
        release_memory()
        self.scorer_, found = fit_scorer(params, matrix, codes, k, weights, progress)
        return self._drawn_to_mix(found, matrix)

    def predict_proba(
        self,
        X: pd.DataFrame,  # noqa: N803
        past: Past | None = None,
        *,
        history: pd.DataFrame | None = None,
    ) -> np.ndarray:
        """Return probabilities of shape (n, len(classes_)) for n sessions, bit-identical to the answers over HTTP.

        A value outside the range of its column counts as missing, as in a training. If the column `vehicle_model` is
        absent, all its values count as missing. Columns that are not in FEATURES are ignored.

        Args:
            X: n rows in natural units. The column `user_id` names the drivers; without this column all drivers are
                new.
            past: the history columns of each driver, as in `fit`.
            history: cleaned sessions (`zap.read_history`) from which each driver's past is computed: the sessions that
                started strictly before the row of X. The history may contain the rows of X and later sessions. By
                default it is the history that `with_history` has bound.

        Warns:
            UserWarning: a history is given, but X has no column `user_id`, or the history has none of the drivers of X,
                or the model knows none of the history's charger types.

        Raises:
            NotFittedError: the model is not fitted.
            TypeError: X or the history is no DataFrame.
            ValueError: X names drivers, and neither a past nor a history is given; the columns of `past` do not match
                the model's types; another column is absent or has a value of a wrong type; a row has no start; a
                session appears more than once in the history.
        """
        check_is_fitted(self)
        return self.probabilities(self.matrix(X, self._past(X, past, history)))

    def predict(
        self,
        X: pd.DataFrame,  # noqa: N803
        past: Past | None = None,
        *,
        history: pd.DataFrame | None = None,
    ) -> np.ndarray:
        """Return the most probable charger type of each of n sessions; `predict_proba` explains the arguments."""
        best = self.predict_proba(X, past, history=history).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def with_history(self, history: pd.DataFrame) -> Self:
        """Return a copy that uses a history by default. Clones, pickles and artefacts of the copy do not have it.

        `history` is as in `predict_proba`; a later change of the frame has no effect.
        """
        check_is_fitted(self)
        bound = type(self).__new__(type(self))
        bound.__dict__ = {**self.__dict__, "_pasts": Pasts(history)}
        return bound

    def feature_importances(self, kind: Kind = "gain") -> pd.Series:
        """Return the importance of each column of `columns_` for the trees alone, largest first.

        `kind` is `gain` (the training loss that splits on the column have saved) or `split` (how many splits).
        """
        check_is_fitted(self)
        return importances(self.booster_, self.columns_, kind)

    def contributions(
        self,
        X: pd.DataFrame,  # noqa: N803
        past: Past | None = None,
        *,
        history: pd.DataFrame | None = None,
        charger_type: str | None = None,
    ) -> pd.DataFrame:
        """Return the contribution of each column to the trees' score of a charger type, for n sessions.

        The contributions are LightGBM's SHAP values. The columns are `columns_` and `expected_value`, the mean score;
        the sum of a row is the score. With two types, the score is the log-odds of the type. With more types, the
        difference between the scores of two types is the logarithm of the ratio of their probabilities. The
        contributions explain the trees only, whose weight in the prediction is 1 - `scorer_.weight` for drivers with a
        past, and `cold_weight_` for other drivers.

        Args:
            X: as in `predict_proba`.
            past: as in `predict_proba`.
            history: as in `predict_proba`.
            charger_type: one of `classes_`; by default the predicted type of each row.

        Warns:
            UserWarning: as in `predict_proba`, or `cold_weight_` is 0 and rows have drivers without a past.

        Raises:
            NotFittedError, TypeError: as in `predict_proba`.
            ValueError: as in `predict_proba`, or the model does not know the charger type.
        """
        check_is_fitted(self)
        matrix = self.matrix(X, self._past(X, past, history))
        warn_of_weightless(self.cold_weight_, is_cold(matrix, len(self.classes_)))
        if charger_type is None:
            codes = self.probabilities(matrix).argmax(axis=1)
        else:
            codes = np.full(len(matrix), class_code(self.classes_.tolist(), charger_type))
        added = contributions(self.booster_, self._own_columns(matrix), codes, threads=self.n_jobs)
        return pd.DataFrame(added, index=X.index, columns=[*self.columns_, EXPECTED_VALUE])

    def probabilities(self, matrix: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """Return probabilities of shape (n, len(classes_)) for the result of `matrix`."""
        return self._drawn_to_mix(self.scorer_.score(self._own_columns(matrix), threads or self.n_jobs), matrix)

    def score_parts(self, X: pd.DataFrame, past: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # noqa: N803
        """Return the result of `predict_proba`, and the probabilities of each part and of the blend, by name."""
        matrix = self.matrix(X, past)
        found, parts = self.scorer_.score_parts(self._own_columns(matrix), self.n_jobs)
        return self._drawn_to_mix(found, matrix), {name: self._drawn_to_mix(one, matrix) for name, one in parts.items()}

    def _drawn_to_mix(self, found: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return draw_to_mix(found, is_cold(matrix, k := len(self.classes_)), mixes(matrix, k), self.cold_weight_)

    @property
    def booster_(self) -> lightgbm.Booster:
        """Return the LightGBM booster of the scorer."""
        return self.scorer_.booster

    def _own_columns(self, matrix: np.ndarray) -> np.ndarray:
        # A version of older code reads fewer columns than this code computes.
        places = column_places(self.columns_, self.classes_.tolist())
        return matrix if places is None else matrix[:, places]

    def fitted(self) -> FittedModel:
        """Return the result of the training as plain data."""
        check_is_fitted(self)
        return FittedModel(
            hyper_parameters={**self.get_params(), "left_out": list(self.left_out)},
            features=tuple(self.feature_names_in_.tolist()),
            classes=tuple(self.classes_.tolist()),
            contract=self.contract_,
            columns=tuple(self.columns_),
            population=self.population_,
            cold_weight=self.cold_weight_,
            scorer=scorer_data(self.scorer_),
        )

    @classmethod
    def from_fitted(cls, fitted: FittedModel) -> Self:
        """Return the estimator with this result of a training."""
        model = cls(**stored_parameters(fitted.hyper_parameters))
        model.feature_names_in_ = np.array(fitted.features, dtype=object)
        model.classes_, model.columns_ = np.array(fitted.classes), list(fitted.columns)
        model.contract_, model.population_ = dict(fitted.contract), fitted.population
        model.cold_weight_ = fitted.cold_weight
        model.scorer_ = read_scorer(fitted.scorer, fitted.columns, fitted.classes)
        return model

    def to_bytes(self) -> bytes:
        """Return the artefact, which `FittedModel.from_bytes` reads."""
        return self.fitted().to_bytes()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return plain data for a pickle: the artefact of a fitted estimator; the parameters if it is not fitted."""
        if not hasattr(self, "scorer_"):
            return partial(ChargerTypeModel, **self.get_params()), ()
        return restored, (self.to_bytes(),)

    def matrix(self, frame: pd.DataFrame, past: np.ndarray | None = None) -> np.ndarray:
        """Return the matrix of `computed_columns` for n rows of FEATURES: float64 of shape (n, columns)."""
        if past is None:
            lag = (self.asked_before or 0) + self.delay
            past = past_of_new_drivers(frame, self.classes_.tolist(), self.population_, lag)
        return np.column_stack([natural_columns(frame, self.contract_), past])

    def _past(self, sessions: pd.DataFrame, past: Past | None, history: pd.DataFrame | None) -> np.ndarray | None:
        check_frame(sessions, "X")
        pasts = self._pasts if history is None else Pasts(history)
        if past is not None and history is not None:
            raise ValueError("give past or history, not both: past is computed from history")
        return past_of(sessions, past, pasts, self.classes_.tolist(), self.population_, self.asked_before, self.delay)


def restored(saved: bytes | Mapping[str, Any]) -> ChargerTypeModel:
    """Return the estimator from an artefact, or from the fields of an older model file, which was a pickle of them."""
    # Every model file contains the name of this function, so the name must not change.
    read = FittedModel.from_bytes(saved, sha256(saved)) if isinstance(saved, bytes) else FittedModel.from_older(saved)
    return ChargerTypeModel.from_fitted(read)
