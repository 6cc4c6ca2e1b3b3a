"""POST /predict/batch: many rows as JSON or CSV at once, or as NDJSON in a stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog
from litestar import Controller, Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from zap.batch_prediction import Answered, BatchPrediction
from zap.controllers.line_stream import NDJSON, Line, LineStream
from zap.controllers.parameters import media_type
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import BatchReply, FieldError, PredictReply, RefusedRow
from zap.db.prediction_log import Logged
from zap.db.tables import utc_now
from zap.errors import BatchTooLarge, TooBusy
from zap.ml.batch import Refusal, Rows, invalid_batch, placed, read_csv, read_json, refusals
from zap.settings import Settings

JSON, CSV = "application/json", "text/csv"
# How long a batch waits for those in front of it.
_PATIENCE_SECONDS = 30

# A body that is read whole may have ZAP_BATCH_BYTES, and takes some times as much.
_MOST_OPEN = 16

_Done = TypeVar("_Done")

_encoder = msgspec.json.Encoder()
log = structlog.get_logger(__name__)


def few_at_once(app: ASGIApp) -> ASGIApp:
    """Around the route: no more requests are open at once than there is memory for; the others are told before a body
    is read.
    """
    is_open = 0

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal is_open
        if is_open >= _MOST_OPEN:
            raise TooBusy(f"{_MOST_OPEN} batches are open already")
        is_open += 1
        try:
            await app(scope, receive, send)
        finally:
            is_open -= 1

    return limited


class BatchController(Controller):
    tags = ("predictions",)

    def __init__(self, owner: Router) -> None:
        super().__init__(owner)
        # One batch, or one group of lines, at a time: two would take no less time and twice the memory, and single
        # requests would wait longer.
        self._turn = asyncio.Lock()

    @post(
        "/predict/batch",
        status_code=200,
        operation_id="predictBatch",
        summary="Predict for many sessions at once",
        # The bodies that are read whole have a limit of their own; NDJSON has none.
        request_max_body_size=None,
        responses=problem_specs(400, 401, 413, 415, 422, 503),
        middleware=[few_at_once],
    )
    async def predict(
        self,
        request: Request[Any, Any, State],
        state: State,
        on_error: Annotated[
            Literal["fail", "skip"],
            QueryParameter(
                description="JSON and CSV: with fail nothing is answered where a row has an error, with skip the other"
                " rows are. NDJSON answers a bad line in its place, always."
            ),
        ] = "fail",
    ) -> Response[BatchReply]:
        """Each row means what a body of `/predict` means, and is logged and answered like one.

        JSON is `{"inputs": [...]}`. CSV has the fields as columns, in any order; an empty cell is null, and a column
        that is not there is a field that is left out. Both are committed whole before they are answered, in JSON.
        NDJSON is answered in NDJSON, a line for a line, while it comes: committed in groups of 1,000 lines, each
        before it is answered. Where that cannot go on, the last line is a problem, whose `line` is the first line that
        is not answered.
        """
        received_at = utc_now()
        kind = media_type(request, JSON, CSV, NDJSON)
        settings: Settings = state.settings
        batches = BatchPrediction(state.engine, state.driver_histories, settings.wall_time)
        if kind == NDJSON:

            async def answer(lines: Sequence[Line]) -> bytes:
                async with self._one_at_a_time():
                    return await _answer_lines(batches, lines, state)

            return LineStream(request, answer, state.stopping)
        body = await _read_body(request, settings.batch_bytes)
        if body is None:
            return Response(b"", media_type=JSON)  # type: ignore[arg-type] # to nobody
        read = partial(read_json if kind == JSON else read_csv, body, settings.batch_rows)
        async with self._one_at_a_time():
            content = await _answer_rows(batches, read, received_at, state, skip=on_error == "skip")
        return Response(content, media_type=JSON)  # type: ignore[arg-type] # encoded already, off the event loop

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncGenerator[None, None]:
        try:
            await asyncio.wait_for(self._turn.acquire(), _PATIENCE_SECONDS)
        except TimeoutError:
            raise TooBusy("the batches in front of this one take too long") from None
        try:
            yield
        finally:
            self._turn.release()


async def _read_body(request: Request[Any, Any, State], most_bytes: int) -> bytes | None:
    """The whole body, of which no more is ever held than it may have; None where the client has gone away.

    Raises:
        BatchTooLarge: it has more bytes.
    """
    too_large = BatchTooLarge(f"the body may have {most_bytes:,} bytes (ZAP_BATCH_BYTES); NDJSON has no such limit")
    if (request.content_length or 0) > most_bytes:
        raise too_large
    body = bytearray()
    while True:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise too_large
        if not message.get("more_body", False):
            return bytes(body)


async def _answer_rows(
    batches: BatchPrediction, read: Callable[[], Rows], received_at: datetime, state: State, *, skip: bool
) -> bytes:
    """The reply to a whole batch, once all of it is in the database."""
    # The version that serves when it is its turn.
    predictor = state.production.predictor

    def work() -> tuple[Rows, Answered]:
        rows = read()
        completed = batches.complete(rows.texts, predictor, received_at)
        if not skip and (refused := refusals(completed)):
            raise invalid_batch(refused, rows.lines)
        return rows, batches.answer(completed, predictor, received_at)

    rows, answered = await _apart(work)
    logged = await state.prediction_log.record_all(answered.to_log)
    _note_refused_rows(state, answered)
    return await _apart(lambda: _reply(rows, answered, logged))


def _reply(rows: Rows, answered: Answered, logged: Sequence[Logged]) -> bytes:
    def refused(place: int, refusal: Refusal) -> RefusedRow:
        line = rows.lines[place] if rows.lines else None
        return _refused_row(placed(place, refusal), line)

    predictions = _predictions(answered, logged, refused)
    skipped = len(predictions) - len(logged)
    return _encoder.encode(BatchReply("success", len(logged), skipped, predictions))


async def _answer_lines(batches: BatchPrediction, lines: Sequence[Line], state: State) -> bytes:
    """A line for each line, once all are in the database."""
    received_at = utc_now()
    # Another version may have begun to serve since the group before.
    predictor = state.production.predictor
    answered = await _apart(lambda: batches.predict([text for _, text in lines], predictor, received_at))
    logged = await state.prediction_log.record_all(answered.to_log)
    _note_refused_rows(state, answered)

    def refused(place: int, refusal: Refusal) -> RefusedRow:
        return _refused_row(refusal.errors, lines[place][0])

    return await _apart(lambda: _encoder.encode_lines(_predictions(answered, logged, refused)))


async def _apart(work: Callable[[], _Done]) -> _Done:
    """Work in a thread. Cancelled in the middle it waits until that is over: only then is it another's turn."""
    working = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def _note_refused_rows(state: State, answered: Answered) -> None:
    """Rows that are refused one by one are counted like refused requests, and leave one line together."""
    n = len(answered.rows) - len(answered.to_log)
    if n:
        state.refused_requests += n
        log.info("refused rows", rows=n, of=len(answered.rows), refused_requests=state.refused_requests)


def _predictions(
    answered: Answered, logged: Sequence[Logged], refused: Callable[[int, Refusal], RefusedRow]
) -> list[PredictReply | RefusedRow]:
    places = iter(logged)
    return [
        refused(place, row) if isinstance(row, Refusal) else PredictReply.of(row, next(places))
        for place, row in enumerate(answered.rows)
    ]


def _refused_row(errors: Sequence[dict[str, str]], line: int | None) -> RefusedRow:
    return RefusedRow([FieldError(one["pointer"], one["detail"]) for one in errors], line)
