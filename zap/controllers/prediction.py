"""POST /predict and GET /predictions/{prediction_id}."""

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Request, get
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.params import FromPath
from litestar.serialization import encode_json
from litestar.types import HTTPScope, Receive, Scope, Send
from msgspec import Meta, Struct

from zap.controllers.deadline import TAKES_ITS_TIME
from zap.controllers.parameters import check_number, media_type, read_body
from zap.controllers.prediction_reply import PredictReply
from zap.controllers.problems import problem_specs
from zap.db.log.stored_predictions import logged_json, read_prediction
from zap.flows.prediction import OnePrediction
from zap.formats.request_rows import LARGEST_ROW

_LARGEST_BODY = LARGEST_ROW
_METHODS = b"OPTIONS, POST"
# How clients usually write that they send JSON.
_PLAIN_JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})

# POST /predict in the OpenAPI document, which Litestar leaves out because the route is plain ASGI.
OPERATION: dict[str, Any] = {
    "tags": ["predictions"],
    "summary": "Predict the charger type of a driver's next session",
    "description": "The request and its prediction are committed before the reply is sent. If they cannot be"
    " committed, the reply is an error.",
    "operationId": "predict",
    "responses": {
        "200": {
            "description": "The prediction",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictReply"}}},
        },
    },
}
# The statuses of the errors of POST /predict.
REFUSALS = (400, 413, 415, 422, 503)


class PredictionRecord(Struct):
    """A stored prediction, with the request that it answered."""

    prediction_id: int
    source: Literal["train", "inference"]
    predicted_class: str
    actual_class: Annotated[str | None, Meta(description="the type that the driver used; known only with source train")]
    probabilities: Annotated[dict[str, float] | None, Meta(description="null in rows that are older than zap")]
    model_version: Annotated[int | None, Meta(description="null in rows that are older than zap")]
    prediction_timestamp: Annotated[
        str,
        Meta(description="ISO 8601. zap's rows are in UTC (+00:00). Older rows have no offset: their zone is unknown"),
    ]
    input_id: Annotated[int | None, Meta(description="null with source train")]
    request_timestamp: str | None
    request: Annotated[Any, Meta(description="the JSON as the client sent it")]


class _PlainRoute(ASGIRouteHandler):
    """Pass the route itself to its guards: the copy that Litestar makes for each guard takes 5 % of a prediction."""

    async def authorize_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc] # Litestar has made each of them awaitable


class PredictionController(Controller):
    tags = ("predictions",)

    @_PlainRoute("/predict", opt=TAKES_ITS_TIME, copy_scope=False)
    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request without Litestar's request and response objects, which take half of the time.

        Raises:
            MethodNotAllowedException: the method is neither POST nor OPTIONS.
        """
        if scope["type"] == ScopeType.HTTP and scope["method"] == "POST":
            _check_json(scope, receive, send)
            body = await read_body(scope, receive, _LARGEST_BODY)
            one: OnePrediction = scope["litestar_app"].state.prediction
            reply = encode_json(PredictReply.of(*await one.predict(body)))
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": reply, "more_body": False})
        elif scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", _METHODS)]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            raise MethodNotAllowedException(headers={"allow": _METHODS.decode()})

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


def _check_json(scope: HTTPScope, receive: Receive, send: Send) -> None:
    for name, value in scope["headers"]:
        if name == b"content-type" and value in _PLAIN_JSON:
            return
    media_type(Request(scope, receive, send), "application/json")


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat()
