"""GET /predictions/{prediction_id} and its explanation: the prediction, its request, and what happened then."""

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
from zap.db.log.stored_predictions import logged_json
from zap.flows.stored_prediction import read_with_outcome
from zap.scopes import READ, needs


class OutcomeRecord(Struct):
    """What happened after an answer."""

    status: Annotated[
        Literal["matched", "superseded", "waiting", "no_driver"],
        Meta(
            description="matched: a session is the outcome; superseded: another answer has the session; waiting: there"
            " is no session so far; no_driver: the request named no driver"
        ),
    ]
    kind: Annotated[
        Literal["live", "backtest"],
        Meta(description="backtest: the moment asked about lies before the request by more than ZAP_OUTCOME_HOURS"),
    ]
    asked_at: Annotated[
        str, Meta(description="the moment that was asked about: ISO 8601 without an offset, as the drivers' wall time")
    ]
    actual_class: Annotated[str | None, Meta(description="the charger type of the session")]
    session_id: Annotated[str | None, Meta(description="the session, by the id of its reports")]
    lag_seconds: Annotated[
        int | None, Meta(description="from asked_at to the start of the session; negative if it began earlier")
    ]
    matched_by: Annotated[
        Literal["report", "time"] | None,
        Meta(description="report: the report of the session named the answer; time: it is the driver's first session"),
    ]
    superseded_by: Annotated[int | None, Meta(description="the next answer with this session")]


class PredictionRecord(Struct, omit_defaults=True):
    """A stored prediction, with the request that it answered and what happened then."""

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
    outcome: Annotated[
        OutcomeRecord | None, Meta(description="null with source train, and until the answer is followed")
    ]
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class StoredExplanation(Struct):
    """A stored prediction, and why the model chose it."""

    prediction_id: int
    model_version: Annotated[int, Meta(description="the version that predicted and now explains")]
    probabilities: dict[str, float]
    explanation: Explanation


class StoredPredictionController(Controller):
    tags = ("predictions",)

    @get(
        "/predictions/{prediction_id:int}",
        operation_id="getPrediction",
        opt=needs(READ),
        summary="A prediction and the request that it answered",
        responses=problem_specs(404, 503),
    )
    async def read(
        self, request: Request[Any, Any, State], prediction_id: FromPath[int], state: State
    ) -> PredictionRecord:
        check_number(request, prediction_id, "prediction")
        found, outcome = await state.threads.run(state.reads.read, read_with_outcome, prediction_id)
        row = dict(found)
        text = row.pop("input_data_json")
        return PredictionRecord(
            **row
            | {
                "prediction_timestamp": _iso(row["prediction_timestamp"]),
                "request_timestamp": _iso(row["request_timestamp"]),
                "request": logged_json(text),
                "outcome": None if outcome is None else _outcome(outcome),
            }
        )

    @get(
        "/predictions/{prediction_id:int}/explanation",
        operation_id="explainPrediction",
        opt=needs(READ),
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


def _outcome(outcome: dict[str, Any]) -> OutcomeRecord:
    fields = {name: value for name, value in outcome.items() if name != "user_id"}
    return OutcomeRecord(**fields | {"asked_at": fields["asked_at"].isoformat()})


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat()
