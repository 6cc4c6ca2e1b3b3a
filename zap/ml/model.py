"""ChargerTypeModel: the estimator that is trained, saved, served and handed to data scientists."""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import joblib
import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from zap.ml.cold import between, draw_to_mix, is_cold, mixes
from zap.ml.features import CATEGORIES, FEATURES, MATRIX_COLUMNS, NUMBERS, build_features, check_features
from zap.ml.fitted import FittedModel, booster_columns, category_codes
from zap.ml.history import population_history
from zap.ml.memory import give_back
from zap.ml.trees import of_all_classes
from zap.ml.user_history import DAY, UserHistory, history_columns


class Rounds(Protocol):
    """Called with what is done and of how much; of boosting also with the mean log loss on the training rows so far."""

    def __call__(self, done: int, total: int, log_loss: float | None = None, /) -> None: ...


# The known values of each category feature.
Categories = Mapping[str, Sequence[str]]

# The weight for drivers without a past is learned on this share of the rows, the last, from those before: on either
# side at most so many, those that are next to the other side.
_COLD_SHARE = 0.2
_COLD_ROWS = 10_000
# A fit has a thread for each of so many rows: with few, threads wait for each other longer than they compute,
# beside a busy server many times longer. The trees do not depend on it.
_ROWS_PER_THREAD = 20_000
# With fewer of them than this, all later drivers are taken for new ones: what is said of them when nobody knows them.
_FEWEST_COLD = 20
# How often a boosting tells of itself, and at most for one part in so many of its time.
_TOLD_SECONDS = 0.2
_TOLD_SHARE = 100


class ChargerTypeModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """A LightGBM classifier over raw natural-unit columns (FEATURES) and drivers' pasts, scikit-learn style.

    The parameters are LightGBM's; the defaults were found by an earlier search on ZapApp's history.

    For drivers without a past the booster's probabilities are drawn towards the mix of types of the days before, by a
    weight that is learned on the later of the training rows from the earlier ones.

    Attributes after `fit`:
        classes_: the charger types, sorted; the columns of `predict_proba`.
        feature_names_in_: the columns that a frame must have.
        contract_: what a request must carry: for each field `required`, `nullable` or `ignored`, and the known
            values of each category.
        columns_: the names of the columns that the booster sees: MATRIX_COLUMNS and `history_columns(classes_)`.
        population_: the mixes of types on the days of the training rows, for drivers of whom nothing is known.
        cold_weight_: the booster's weight for drivers without a past, 0 to 1; the rest is the mix's.
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
        min_child_samples: int = 20,
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
        self.min_child_samples = min_child_samples
        self.reg_alpha = reg_alpha
        self.reg_lambda = reg_lambda
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: np.ndarray | None = None,
        categories: Categories | None = None,
        progress: Rounds | None = None,
    ) -> Self:
        """Fit on n cleaned sessions and the charger types that their drivers used.

        Args:
            X: n rows of FEATURES, in order of their start.
            y: n charger types.
            past: what was known of each driver, `training.past_features(frame, ...)`: float64 of shape
                (n, len(history_columns(types))). By default nothing is known of any driver. One with room for
                MATRIX_COLUMNS in front (`past_matrix`) becomes the matrix that is fitted: they are written into it.
            categories: the known values of each category feature; by default those in X. A value that no row of X
                has is accepted later and counts as missing.
            progress: called a few times a second with the boosting round that ended.

        Raises:
            ValueError: when fewer than two types are there, or a column of X cannot be known before a session.
        """
        self.fit_predict_proba(X, y, past=past, categories=categories, progress=progress)
        return self

    def fit_predict_proba(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: np.ndarray | None = None,
        categories: Categories | None = None,
        progress: Rounds | None = None,
    ) -> np.ndarray:
        """`fit`, and what `predict_proba` would say of the same rows, to the bit.

        To predict them takes nearly as long as to fit them; at the end of the boosting their probabilities are there.
        """
        matrix, codes = self.prepare(X, y, past=past, categories=categories)
        self.cold_weight_ = self._learn_cold_weight(X, matrix, codes)
        give_back()
        self.booster_, found = boost(self.get_params(), matrix, codes, len(self.classes_), progress)
        return draw_to_mix(found, matrix, self.cold_weight_)

    def prepare(
        self,
        X: pd.DataFrame,  # noqa: N803
        y: Sequence[str] | pd.Series,
        *,
        past: np.ndarray | None = None,
        categories: Categories | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """All of `fit` but the boosting: the matrix that would be boosted on, and the codes of the types."""
        # A million rows repeat few types; each is looked at once.
        places, different = pd.factorize(np.asarray(y, dtype=object), use_na_sentinel=False)
        self.classes_, ranks = np.unique(different.astype(str), return_inverse=True)
        codes = ranks[places]
        if len(self.classes_) < 2:
            raise ValueError(f"two or more charger types are needed; the sessions have only {self.classes_.tolist()}")
        names = [feature.name for feature in FEATURES]
        check_features(names)
        self.feature_names_in_ = np.array(names, dtype=object)
        self.contract_: dict[str, Any] = {"fields": _fields(X), "categories": dict(categories or known_categories(X))}
        self.columns_ = [*MATRIX_COLUMNS, *history_columns(self.classes_.tolist())]
        self.population_ = population_history(
            X["charging_start_time"].to_numpy(), self.classes_.astype(object)[codes], self.classes_.tolist()
        )
        if past is not None and past.shape[1] == len(self.columns_):
            # Of a million rows a copy would be a third of all memory.
            self._natural(X, out=past[:, : len(MATRIX_COLUMNS)])
            return past, codes
        return self.matrix(X, past), codes

    def predict_proba(self, X: pd.DataFrame, past: np.ndarray | None = None) -> np.ndarray:  # noqa: N803
        """Probabilities of shape (n, len(classes_)) for n rows of natural-unit columns.

        A value outside the range of its column counts as missing, as in a training; so does a `vehicle_model` column
        that is not there.

        Args:
            X: n rows.
            past: what was known of each driver, as in `fit`; by default the drivers are new.

        Raises:
            ValueError: other columns are not there, or a row has no start.
        """
        check_is_fitted(self)
        return self.probabilities(self.matrix(X, past))

    def predict(self, X: pd.DataFrame, past: np.ndarray | None = None) -> np.ndarray:  # noqa: N803
        """The most probable charger type of each of n rows."""
        return np.asarray(self.classes_[self.predict_proba(X, past).argmax(axis=1)])

    def probabilities(self, matrix: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """Probabilities of shape (n, len(classes_)) for a matrix of the columns `columns_`."""
        found = booster_probabilities(self.booster_, matrix, threads or self.n_jobs)
        return draw_to_mix(found, matrix, self.cold_weight_)

    def fitted(self) -> FittedModel:
        """What the training found, as plain data."""
        check_is_fitted(self)
        return FittedModel(
            hyper_parameters=self.get_params(),
            features=tuple(self.feature_names_in_.tolist()),
            classes=tuple(self.classes_.tolist()),
            contract=self.contract_,
            columns=tuple(self.columns_),
            population=self.population_,
            cold_weight=self.cold_weight_,
            trees=self.booster_.model_to_string(),
        )

    @classmethod
    def from_fitted(cls, fitted: FittedModel) -> Self:
        """The estimator that found this."""
        model = cls(**fitted.hyper_parameters)
        model.feature_names_in_ = np.array(fitted.features, dtype=object)
        model.classes_ = np.array(fitted.classes)
        model.contract_ = dict(fitted.contract)
        model.columns_ = list(fitted.columns)
        model.population_ = fitted.population
        model.cold_weight_ = fitted.cold_weight
        model.booster_ = lightgbm.Booster(model_str=fitted.trees)
        return model

    def to_bytes(self) -> bytes:
        """The artefact: what `joblib.load` and `FittedModel.from_bytes` read."""
        buffer = io.BytesIO()
        joblib.dump(self, buffer, compress=("zlib", 3))
        return buffer.getvalue()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled as plain data, so that a server reads it without the packages that a training needs."""
        if not hasattr(self, "booster_"):
            return _unfitted, (self.get_params(),)
        return restored, (self.fitted().state(),)

    def matrix(self, frame: pd.DataFrame, past: np.ndarray | None = None) -> np.ndarray:
        """The matrix of the columns `columns_` for n rows of natural-unit columns: float64 of shape (n, columns)."""
        natural = self._natural(frame)
        return np.column_stack([natural, self._no_past(frame) if past is None else past])

    def _no_past(self, frame: pd.DataFrame) -> np.ndarray:
        """What is known of new drivers: the mix of the days before."""
        new = UserHistory(len(self.classes_))
        days, places = np.unique(frame["charging_start_time"].to_numpy(dtype="datetime64[D]"), return_inverse=True)
        starts = (days.astype(np.int64) * DAY).tolist()
        columns = len(self.columns_) - len(MATRIX_COLUMNS)
        known = [new.features(start, self.population_.mix(start)) for start in starts]
        return np.array(known, dtype=np.float64).reshape(-1, columns)[places]

    def _learn_cold_weight(self, X: pd.DataFrame, matrix: np.ndarray, codes: np.ndarray) -> float:  # noqa: N803
        """The weight that would have served the later drivers without a past, of a booster of the rows before.

        The smallest whose mean log loss is within a standard error of the best one's (Breiman et al., 1984): it takes
        evidence to say something else than the mix.
        """
        k = len(self.classes_)
        cut = round(len(codes) * (1 - _COLD_SHARE))
        earlier = slice(max(0, cut - _COLD_ROWS), cut)
        if len(np.unique(codes[earlier])) < 2:
            return 0.0
        cold = (cut + np.flatnonzero(is_cold(matrix[cut:], k)))[:_COLD_ROWS]
        asked = matrix[cold]
        if len(cold) < _FEWEST_COLD:
            cold = np.arange(cut, len(codes))[:_COLD_ROWS]
            asked = self.matrix(X.iloc[cold])
        booster = train_booster(self.get_params(), matrix[earlier], codes[earlier], k)
        truth = codes[cold, None]
        found, mix = (
            np.take_along_axis(one, truth, axis=1)
            for one in (booster_probabilities(booster, asked, self.n_jobs), mixes(asked, k))
        )
        weights = np.linspace(0, 1, 21)
        losses = -np.log(np.maximum(between(found, mix, weights), 1e-15))
        worse = losses - losses[:, [losses.mean(axis=0).argmin()]]
        close = worse.mean(axis=0) <= worse.std(axis=0) / np.sqrt(len(cold))
        return float(weights[close.argmax()])

    def _natural(self, frame: pd.DataFrame, out: np.ndarray | None = None) -> np.ndarray:
        absent = [feature.name for feature in FEATURES if feature.name not in frame]
        frame = frame.assign(**{name: None for name in absent if name == "vehicle_model"})
        if needed := [name for name in absent if name not in frame]:
            raise ValueError(f"the frame has no column {', '.join(needed)}")
        columns = {"charging_start_time": frame["charging_start_time"].to_numpy()}
        for feature in CATEGORIES:
            # Each different text becomes one Python object, not one a row.
            places, different = pd.factorize(frame[feature.name])
            columns[feature.name] = np.array([*different, None], dtype=object)[places]
        for feature in NUMBERS:
            columns[feature.name] = feature.masked(frame[feature.name].to_numpy(dtype=np.float64, na_value=np.nan))
        return build_features(columns, category_codes(self.contract_), out)


def restored(state: Mapping[str, Any]) -> ChargerTypeModel:
    """The estimator that was pickled; the name is part of every artefact."""
    return ChargerTypeModel.from_fitted(FittedModel.from_state(state))


def _unfitted(params: Mapping[str, Any]) -> ChargerTypeModel:
    return ChargerTypeModel(**params)


def train_booster(
    params: Mapping[str, Any], matrix: np.ndarray, codes: np.ndarray, n_classes: int, progress: Rounds | None = None
) -> lightgbm.Booster:
    """A booster for n codes of classes, fitted to a matrix of n rows."""
    booster, _ = boost(params, matrix, codes, n_classes, progress)
    return booster


def boost(
    params: Mapping[str, Any], matrix: np.ndarray, codes: np.ndarray, n_classes: int, progress: Rounds | None = None
) -> tuple[lightgbm.Booster, np.ndarray]:
    """The same, and its probabilities of these rows: what it would predict, to the bit."""
    binary = n_classes == 2
    booster = lightgbm.train(
        {
            "objective": "binary" if binary else "multiclass",
            **({} if binary else {"num_class": n_classes}),
            **params,
            "n_jobs": min(params["n_jobs"], -(-len(matrix) // _ROWS_PER_THREAD)),
            # LightGBM takes a share of the rows only where it is told how often to draw them.
            **({"bagging_freq": 1} if params["subsample"] < 1 else {}),
            # The same rows, seed, versions and machine type give the same trees.
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        },
        lightgbm.Dataset(
            matrix,
            codes,
            feature_name=booster_columns(n_classes),
            categorical_feature=[feature.name for feature in CATEGORIES],
        ),
        callbacks=[_told(progress)] if progress else [],
        keep_training_booster=True,
    )
    found = _training_probabilities(booster)
    # What answers now must be what answers after a load, to the bit.
    return lightgbm.Booster(model_str=booster.model_to_string()), found


def _training_probabilities(booster: lightgbm.Booster) -> np.ndarray:
    """What a booster says of the rows that it was just fitted to; shape (n, classes)."""
    seen: list[np.ndarray] = []

    def see(found: np.ndarray, _data: Any) -> tuple[str, float, bool]:
        seen.append(of_all_classes(found))
        return "", 0.0, False

    # LightGBM shows them to nobody but a metric.
    booster.eval_train(see)
    return seen[0]


def _told(progress: Rounds) -> Callable[[Any], None]:
    """A callback of LightGBM that tells how far the boosting has come, so seldom that it costs next to nothing."""
    next_at = 0.0

    def after_round(env: Any) -> None:
        nonlocal next_at
        done, total = env.iteration + 1, env.end_iteration
        begin = time.monotonic()
        if done == total or begin >= next_at:
            ((_, _, log_loss, _),) = env.model.eval_train()
            progress(done, total, float(log_loss))
            # The loss of a million rows takes about as long as a tenth of a round.
            next_at = begin + max(_TOLD_SECONDS, _TOLD_SHARE * (time.monotonic() - begin))

    return after_round


def booster_probabilities(booster: lightgbm.Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
    """Probabilities of shape (n, classes) for a matrix of n rows, before anything is said about new drivers."""
    if not len(matrix):
        return np.empty((0, max(2, booster.num_model_per_iteration())))
    return of_all_classes(np.asarray(booster.predict(matrix, num_threads=threads)))


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
