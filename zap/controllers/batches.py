"""POST /predict/batch: many rows as JSON or CSV at once, or as NDJSON in a stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from zap.batch_prediction import Answered, BatchPrediction, uncollected
from zap.controllers.line_stream import NDJSON, Line, LineStream
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import BatchReply, FieldError, PredictReply, RefusedRow
from zap.db.prediction_log import Logged
from zap.db.tables import utc_now
from zap.errors import BatchTooLarge, DatabaseUnavailable, UnsupportedMediaType
from zap.ml.batch import Refusal, Rows, invalid_batch, placed, read_csv, read_json, refusals
from zap.settings import Settings

JSON, CSV = "application/json", "text/csv"
# How long a batch waits for those in front of it.
_PATIENCE_SECONDS = 30

_encoder = msgspec.json.Encoder()


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
        kind = _kind(request)
        settings: Settings = state.settings
        batches = BatchPrediction(state.engine, state.driver_histories, settings.wall_time)
        predictor = state.production.predictor
        if kind == NDJSON:

            async def answer(lines: Sequence[Line]) -> bytes:
                async with self._one_at_a_time():
                    # Another version may have begun to serve meanwhile.
                    return await _answer_lines(batches, lines, state)

            return LineStream(request, answer, state.stopping)
        body = await _read_body(request, settings.batch_bytes)
        async with self._one_at_a_time():

            def work() -> tuple[Rows, Answered]:
                rows = (read_json if kind == JSON else read_csv)(body, settings.batch_rows)
                completed = batches.complete(rows.texts, predictor, received_at)
                if on_error == "fail" and (refused := refusals(completed)):
                    raise invalid_batch(refused, rows.lines)
                return rows, batches.answer(completed, predictor, received_at)

            with uncollected():
                rows, answered = await asyncio.to_thread(work)
                logged = await state.prediction_log.record_all(answered.to_log)
                content = await asyncio.to_thread(_reply, rows, answered, logged)
        return Response(content, media_type=JSON)  # type: ignore[arg-type] # encoded already, off the event loop

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncGenerator[None, None]:
        try:
            await asyncio.wait_for(self._turn.acquire(), _PATIENCE_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable("the batches in front of this one take too long") from None
        try:
            yield
        finally:
            self._turn.release()


def _kind(request: Request[Any, Any, State]) -> str:
    """The media type of the body.

    Raises:
        UnsupportedMediaType: it is none of the three, or in another encoding than UTF-8.
    """
    kind, options = request.content_type
    if kind not in {JSON, CSV, NDJSON}:
        raise UnsupportedMediaType(f"send the header Content-Type: {JSON}, {CSV} or {NDJSON}")
    if (charset := options.get("charset", "utf-8")).lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType(f"the body is in {charset[:40]}; send it in UTF-8")
    return kind


async def _read_body(request: Request[Any, Any, State], most_bytes: int) -> bytes:
    """The whole body, of which no more is ever held than it may have.

    Raises:
        BatchTooLarge: it has more bytes.
    """
    too_large = BatchTooLarge(f"the body may have {most_bytes:,} bytes (ZAP_BATCH_BYTES); NDJSON has no such limit")
    if (request.content_length or 0) > most_bytes:
        raise too_large
    pieces = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)


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
    predictor = state.production.predictor
    answered = await asyncio.to_thread(batches.predict, [text for _, text in lines], predictor, received_at)
    logged = await state.prediction_log.record_all(answered.to_log)

    def refused(place: int, refusal: Refusal) -> RefusedRow:
        return _refused_row(refusal.errors, lines[place][0])

    return await asyncio.to_thread(lambda: _encoder.encode_lines(_predictions(answered, logged, refused)))


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
