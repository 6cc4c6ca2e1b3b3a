"""Explanations of predictions: of an answer that was just logged, and of a stored prediction."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Engine

from zap.db.log.stored_predictions import Scored, read_features
from zap.db.versions.model_registry import Version, load_version, stored_usual_values, version
from zap.db.versions.production import Production
from zap.errors import DamagedModel, NotFound, TooBusy, ZapError
from zap.ml.explanation import Explainer
from zap.ml.inference import Answer, Predictor
from zap.ml.reason_words import Row
from zap.ml.reasons import in_words, reasons
from zap.ml.usual_values import UsualValues
from zap.sentences import say
from zap.threads import Pool

log = structlog.get_logger(__name__)

# An explanation, as JSON has it.
Told = dict[str, Any]

_Done = TypeVar("_Done")

# How many callers may wait for explanations of this process.
MOST_WAITING = 100
# How many answers of a batch are explained before the next caller has its turn.
_AT_A_TIME = 8
# How long (seconds) a batch waits for its next explanations.
_BATCH_SECONDS = 60
# How many versions are kept beside the version in production. Each needs as much memory as a version that serves.
_MOST_VERSIONS = 2
_LATER = "GET /predictions/{prediction_id}/explanation gives it later"


class VersionExplainer:
    """Explain the predictions of one model version in words.

    Args:
        engine: on the database, which has the usual values of the version.
        predictor: the predictor of the version.
    """

    def __init__(self, engine: Engine, predictor: Predictor) -> None:
        self.predictor = predictor
        self._explainer = Explainer.of(predictor)
        stored = stored_usual_values(engine, predictor.model_version)
        self._usual = UsualValues.of(self._explainer.mix, stored)

    def explain(self, features: bytes, probabilities: dict[str, float]) -> Told:
        """Return the explanation of a prediction.

        Raises:
            DamagedModel: the row or the probabilities belong to another model.
        """
        found = self._explainer.explain(features, probabilities)
        row = Row(
            self.predictor.row(features), self.predictor.types, self.predictor.contract["categories"], self._usual
        )
        return {
            "predicted_class": found.predicted,
            "runner_up": found.runner_up,
            "reasons": [reason._asdict() for reason in reasons(found, row)],
            "weights_in_words": in_words(found),
            "new_driver": found.new_driver,
            "log_ratio": found.log_ratio,
            "groups": found.groups,
            "averaging": found.averaging,
            "parts": [part._asdict() for part in found.parts],
        }

    def in_full(self, scored: Scored) -> "InFull":
        """Return the explanation of a stored prediction beside its row and the usual mix.

        Raises:
            DamagedModel: the row or the probabilities belong to another model.
        """
        told = self.explain(scored.features, scored.probabilities)
        again = self.predictor.explain(scored.features, scored.probabilities)
        return InFull(told, again["features"], self._explainer.mix, again["equal"])


class InFull(NamedTuple):
    """A stored prediction with all that its version says about it.

    Attributes:
        told: the explanation.
        row: the scored row by column name, with categories as texts; None where missing.
        mix: the share of each charger type in the training sessions.
        computed_again: whether the version computes exactly these probabilities again from the row.
    """

    told: Told
    row: dict[str, Any]
    mix: dict[str, float]
    computed_again: bool


class VersionExplainers:
    """The explainers of the versions that were needed last. Only one thread may use it.

    Args:
        engine: on the database.
        production: the version that serves, which need not be loaded again; None outside of a server.
    """

    def __init__(self, engine: Engine, production: Production | None = None) -> None:
        self._engine = engine
        self._production = production
        self._of_predictors: OrderedDict[Predictor, VersionExplainer] = OrderedDict()
        self._loaded: OrderedDict[Version, Predictor] = OrderedDict()

    def of(self, predictor: Predictor) -> VersionExplainer:
        """Return the explainer of a loaded version."""
        found = self._of_predictors.pop(predictor, None) or VersionExplainer(self._engine, predictor)
        self._of_predictors[predictor] = found
        while len(self._of_predictors) > _MOST_VERSIONS + 1:
            self._of_predictors.popitem(last=False)
        return found

    def stored(self, prediction_id: int) -> tuple[Scored, VersionExplainer]:
        """Return the row of a stored prediction, and the explainer of the version that predicted.

        Raises:
            NotFound: there is no such prediction, its features were not stored, or its version cannot be read.
        """
        scored = read_features(self._engine, prediction_id)
        number = scored.model_version
        try:
            return scored, self.of(self._predictor(version(self._engine, number)))
        except (DamagedModel, NotFound) as error:
            raise NotFound(
                say(
                    "prediction {prediction_id} cannot be explained: version {number}, which predicted, cannot be"
                    " read ({reason})",
                    prediction_id=prediction_id,
                    number=number,
                    reason=error.message,
                )
            ) from error

    def _predictor(self, wanted: Version) -> Predictor:
        served = self._production.serving(wanted) if self._production else None
        found = served or self._loaded.pop(wanted, None)
        if found is None:
            found = Predictor(load_version(self._engine, wanted), wanted.model_version)
        if served is None:
            self._loaded[wanted] = found
            while len(self._loaded) > _MOST_VERSIONS:
                self._loaded.popitem(last=False)
        return found


class Explanations:
    """Explain predictions in one thread of its own, so that other requests do not wait for them.

    Args:
        engine: on the database.
        production: the version that serves.
    """

    def __init__(self, engine: Engine, production: Production) -> None:
        self._versions = VersionExplainers(engine, production)
        self._threads = Pool("explanations", 1)
        self._waiting = 0

    async def of_answer(self, predictor: Predictor, answer: Answer, until: float) -> Told | str:
        """Return the explanation of an answer that is committed, or in words why there is none.

        Args:
            predictor: the predictor that answered.
            answer: the answer.
            until: when to stop waiting, on the monotonic clock.
        """
        (found,) = await self._explained(predictor, [answer], until)
        return found

    async def of_answers(self, predictor: Predictor, answers: Sequence[Answer]) -> list[Told | str]:
        """Return the explanations of the answers of a batch, as `of_answer` does. Other callers have turns between."""
        found: list[Told | str] = []
        for at in range(0, len(answers), _AT_A_TIME):
            until = time.monotonic() + _BATCH_SECONDS
            found += await self._explained(predictor, answers[at : at + _AT_A_TIME], until)
        return found

    async def of_stored(self, prediction_id: int) -> tuple[Scored, Told]:
        """Return a stored prediction and its explanation.

        Raises:
            NotFound: as in `VersionExplainers.stored`.
            DamagedModel: the stored row belongs to another model.
            DatabaseUnavailable: this takes too long.
            TooBusy: MOST_WAITING callers are waiting already.
        """

        def work() -> tuple[Scored, Told]:
            scored, explainer = self._versions.stored(prediction_id)
            return scored, explainer.explain(scored.features, scored.probabilities)

        return await self._in_turn(work, None)

    async def in_full(self, prediction_id: int) -> InFull:
        """Return a stored prediction with all that its version says about it.

        Raises:
            ZapError: as in `of_stored`.
        """

        def work() -> InFull:
            scored, explainer = self._versions.stored(prediction_id)
            return explainer.in_full(scored)

        return await self._in_turn(work, None)

    def close(self) -> None:
        """End the thread after the explanation that it computes now."""
        self._threads.close()

    async def _explained(self, predictor: Predictor, answers: Sequence[Answer], until: float) -> list[Told | str]:
        def work() -> list[Told | str]:
            explainer = self._versions.of(predictor)
            return [explainer.explain(one.features, one.probabilities) for one in answers]

        try:
            return await self._in_turn(work, until)
        except ZapError as error:
            why = error.message
        except Exception:
            # The answer is committed, so the client gets it also without an explanation.
            log.exception("an explanation failed")
            why = "it failed, and the log says why"
        return [f"there is no explanation ({why}); {_LATER}"] * len(answers)

    async def _in_turn(self, work: Callable[[], _Done], until: float | None) -> _Done:
        if self._waiting >= MOST_WAITING:
            raise TooBusy(say("{n} callers already wait for explanations; ask again later", n=MOST_WAITING))
        self._waiting += 1
        try:
            return await self._threads.run(work, until=until)
        finally:
            self._waiting -= 1
