"""POST /predict."""

from typing import Any

from litestar import Controller, Request
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.serialization import encode_json
from litestar.types import HTTPScope, Receive, Scope, Send

from zap.controllers.parameters import media_type
from zap.controllers.prediction_reply import PredictReply
from zap.controllers.problems import counts_refusals
from zap.db.monitoring.data_quality_days import REFUSED
from zap.flows.prediction import OnePrediction
from zap.formats.request import NAMES
from zap.formats.request_rows import LARGEST_ROW
from zap.public import TAKES_ITS_TIME
from zap.scopes import PREDICT, needs
from zap.server.bodies import read_body

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


class _PlainRoute(ASGIRouteHandler):
    """Pass the route itself to its guards: the copy that Litestar makes for each guard takes 5 % of a prediction."""

    async def authorize_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc] # Litestar has made each of them awaitable


class PredictionController(Controller):
    tags = ("predictions",)

    @_PlainRoute("/predict", opt=TAKES_ITS_TIME | counts_refusals(REFUSED, NAMES) | needs(PREDICT), copy_scope=False)
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


def _check_json(scope: HTTPScope, receive: Receive, send: Send) -> None:
    for name, value in scope["headers"]:
        if name == b"content-type" and value in _PLAIN_JSON:
            return
    media_type(Request(scope, receive, send), "application/json")
