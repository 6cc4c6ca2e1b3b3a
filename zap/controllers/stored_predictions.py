"""GET /predictions/{prediction_id} and its explanation: a stored prediction, with the request that it answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.params import FromPath
from msgspec import Meta, Struct

from zap.controllers.explanation_reply import Explanation
from zap.controllers.parameters import check_number
from zap.controllers.problems import problem_specs
from zap.db.log.stored_predictions import logged_json, read_prediction


class PredictionRecord(Struct):
    """A stored prediction, with the request that it answered."""

    prediction_id: int
    source: Literal["train", "inference"]
    predicted_class: str
    actual_class: Annotated[str | None, Meta(description="the type that the driver used; known only with source train")]
    probabilities: Annotated[dict[str, float] | None, Meta(description="null in rows that are older than zap")]
    model_version: Annotated[int | None, Meta(description="null in rows that are older than zap")]
    # No date-time, which needs an offset.
    prediction_timestamp: Annotated[
        str,
        Meta(description="ISO 8601. zap's rows are in UTC (+00:00). Older rows have no offset: their zone is unknown"),
    ]
    input_id: Annotated[int | None, Meta(description="null with source train")]
    request_timestamp: Annotated[
        str | None, Meta(description="ISO 8601, as prediction_timestamp; null with source train")
    ]
    request: Annotated[Any, Meta(description="the JSON as the client sent it")]


class StoredExplanation(Struct):
    """A stored prediction, and why the model chose it."""

    prediction_id: int
    model_version: Annotated[int, Meta(description="the version that predicted, and that explains")]
    probabilities: dict[str, float]
    explanation: Explanation


class StoredPredictionController(Controller):
    tags = ("predictions",)

    @get(
        "/predictions/{prediction_id:int}",
        operation_id="getPrediction",
        summary="A prediction and the request that it answered",
        responses=problem_specs(404, 503),
    )
    async def read(
        self, request: Request[Any, Any, State], prediction_id: FromPath[int], state: State
    ) -> PredictionRecord:
        check_number(request, prediction_id, "prediction")
        row = dict(await state.threads.run(read_prediction, state.engine, prediction_id))
        text = row.pop("input_data_json")
        return PredictionRecord(
            **row
            | {
                "prediction_timestamp": _iso(row["prediction_timestamp"]),
                "request_timestamp": _iso(row["request_timestamp"]),
                "request": logged_json(text),
            }
        )

    @get(
        "/predictions/{prediction_id:int}/explanation",
        operation_id="explainPrediction",
        summary="Why the model chose the predicted type",
        responses=problem_specs(404, 503),
    )
    async def explain(
        self, request: Request[Any, Any, State], prediction_id: FromPath[int], state: State
    ) -> StoredExplanation:
        """Explain a stored prediction with the version that predicted, from the row that was scored.

        The explanation contrasts the predicted type with the type with the second highest probability. Predictions of
        trainings have no stored row and no explanation.
        """
        check_number(request, prediction_id, "prediction", ending="/explanation")
        scored, explained = await state.explanations.of_stored(prediction_id)
        return StoredExplanation(
            prediction_id, scored.model_version, scored.probabilities, msgspec.convert(explained, Explanation)
        )


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat()
