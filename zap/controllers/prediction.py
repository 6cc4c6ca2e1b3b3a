"""POST /predict and GET /predictions/{prediction_id}."""

import asyncio
import json
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.params import FromPath, RawBody
from litestar.serialization import encode_json
from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send

from zap.controllers.access import carries_key
from zap.controllers.parameters import check_number, media_type
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import PredictionRecord, PredictReply
from zap.db.driver_histories import DriverHistories
from zap.db.drivers import driver_facts, has_gaps
from zap.db.prediction_log import read_prediction
from zap.db.tables import utc_now
from zap.ml.batch import LARGEST_ROW
from zap.ml.cells import to_seconds
from zap.ml.inference import Predictor
from zap.ml.request import USER_ID, complete_request, parse_request
from zap.settings import Settings

_LARGEST_BODY = LARGEST_ROW
# How clients write that they send JSON.
_PLAIN_JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})


async def _answer(state: State, body: bytes) -> PredictReply:
    """All steps from the bytes of a request to an answer that is committed."""
    received_at = utc_now()
    predictor: Predictor = state.production.predictor
    settings: Settings = state.settings
    parsed = parse_request(body, settings.wall_time)
    # The hop to another thread costs more than all the rest of a request without gaps.
    histories: DriverHistories = state.driver_histories
    facts = await histories.apart(driver_facts, state.engine, parsed.values) if has_gaps(parsed.values) else {}
    values = complete_request(parsed, facts, predictor.contract, now=settings.wall_time(received_at))
    driver = (parsed.values.get(USER_ID), to_seconds(values["charging_start_time"]), predictor.types)
    history = histories.known(*driver)
    if history is None:
        history = await histories.apart(histories.read, *driver)
    answer, logged = await state.prediction_log.record(
        parsed.text, received_at, partial(predictor.answer, values, history)
    )
    return PredictReply.of(answer, logged)


def answer_directly(app: ASGIApp) -> ASGIApp:
    """Around the route: a request in the usual form is answered without the objects that Litestar makes for each.

    Those cost as much as all the rest of it. What is unusual takes Litestar's way, to the same answer or its error: a
    body in several pieces, another content type, no key.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        state: State = scope["litestar_app"].state
        usual = scope["type"] == ScopeType.HTTP and scope["method"] == "POST" and _is_plain_json(scope["headers"])
        if not usual or not carries_key(scope["headers"], state.api_key):
            await app(scope, receive, send)
            return
        message = await receive()
        if (
            message["type"] != "http.request"
            or message.get("more_body")
            or len(message.get("body", b"")) > _LARGEST_BODY
        ):
            await app(scope, _again(message, receive), send)
            return
        body = encode_json(await _answer(state, message.get("body", b"")))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answered


def _is_plain_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and value in _PLAIN_JSON for name, value in headers)


def _again(message: ReceiveMessage, receive: Receive) -> Receive:
    """What was received already, then the rest."""
    first = [message]

    async def received() -> ReceiveMessage:
        return first.pop() if first else await receive()

    return received


class PredictionController(Controller):
    tags = ("predictions",)

    @post(
        "/predict",
        status_code=200,
        operation_id="predict",
        summary="Predict the charger type of a driver's next session",
        request_max_body_size=_LARGEST_BODY,
        responses=problem_specs(400, 401, 413, 415, 422, 503),
        middleware=[answer_directly],
    )
    async def predict(self, request: Request[Any, Any, State], body: RawBody, state: State) -> PredictReply:
        """The request and its prediction are committed before this answer is sent; if that fails there is none."""
        media_type(request, "application/json")
        return await _answer(state, body)

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
        row = dict(await asyncio.to_thread(read_prediction, state.engine, prediction_id))
        text = row.pop("input_data_json")
        return PredictionRecord(
            **row
            | {
                "prediction_timestamp": _iso(row["prediction_timestamp"]),
                "request_timestamp": _iso(row["request_timestamp"]),
                "request": _json(text),
            }
        )


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat()


def _json(text: str | None) -> Any:
    """The logged JSON; rows older than zap may hold other text, which is shown as it is."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
