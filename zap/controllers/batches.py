"""POST /predict/batch: many rows in one JSON or CSV body, or in a stream of NDJSON."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import structlog
from litestar import Controller, Request, Response, Router, post
from litestar.datastructures import State
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.exc import SQLAlchemyError

from zap.controllers.line_groups import Line
from zap.controllers.line_stream import NDJSON, LineStream
from zap.controllers.open_batches import batch_of, few_at_once
from zap.controllers.parameters import media_type
from zap.controllers.prediction_reply import PredictReply
from zap.controllers.problems import FieldError, counts_refusals, problem_specs
from zap.db.log.prediction_log import Logged
from zap.db.monitoring.data_quality_days import REFUSED
from zap.db.tables import utc_now
from zap.errors import BatchTooLarge, DatabaseUnavailable, LogUnavailable, TooBusy, VersionReplaced
from zap.flows.explanations import Told
from zap.flows.prediction import Answered, BatchPrediction, serving_now
from zap.formats.refusal_reasons import row_counts
from zap.formats.request import NAMES
from zap.formats.request_csv import read_csv
from zap.formats.request_rows import Refusal, Row, Rows, invalid_batch, placed, read_json, refusals
from zap.ml.inference import Predictor
from zap.public import TAKES_ITS_TIME
from zap.scopes import PREDICT, needs
from zap.server.access import check_again, key_of
from zap.server.batch_rows import BatchRows
from zap.server.bodies import read_body
from zap.settings import Settings
from zap.threads import PATIENCE_SECONDS, Pool, Turns

JSON, CSV = "application/json", "text/csv"
# How long (seconds) a batch waits for the batches before it.
_PATIENCE_SECONDS = 30
# The most rows of a JSON or CSV body that are explained. An explanation takes about ten milliseconds.
MOST_EXPLAINED = 1_000

_Done = TypeVar("_Done")

_encoder = msgspec.json.Encoder()
log = structlog.get_logger(__name__)


class _Committed(NamedTuple):
    """Rows that are answered and committed, with the predictor that answered them."""

    predictor: Predictor
    answered: Answered
    logged: list[Logged]


class RefusedRow(Struct, omit_defaults=True):
    """A refused row of a batch. It takes the row's place among the predictions."""

    errors: Annotated[list[FieldError], Meta(description="every bad field of the row")]
    line: Annotated[int | None, Meta(description="in NDJSON and CSV: the line of the row; the first line is 1")] = None


class BatchReply(Struct):
    """The predictions of a batch, which were committed before this reply was sent."""

    status: Literal["success"]
    answered: Annotated[int, Meta(description="how many rows have a prediction")]
    skipped: Annotated[int, Meta(description="how many rows have errors; always 0 with on_error=fail")]
    # msgspec encodes a union of two structs but cannot describe it: `docs.py` adds the element type to the document.
    predictions: Annotated[
        list[Any],
        Meta(description="one for each row, in the order of the rows; a skipped row has its errors here"),
    ]


class BatchController(Controller):
    tags = ("predictions",)

    def __init__(self, owner: Router) -> None:
        super().__init__(owner)
        # One batch, or one group of lines, at a time: two at once would not finish sooner, would need twice the memory,
        # and would delay single requests.
        busy = f"the batches before this one took longer than {_PATIENCE_SECONDS} seconds; send this batch again later"
        self._turns = Turns(_PATIENCE_SECONDS, partial(TooBusy, busy))
        # When the database last failed a batch, on the monotonic clock.
        self._failed_at = 0.0

    @post(
        "/predict/batch",
        status_code=200,
        operation_id="predictBatch",
        opt=TAKES_ITS_TIME | counts_refusals(REFUSED, NAMES) | needs(PREDICT),
        summary="Predict for many sessions at once",
        # JSON and CSV bodies, which are read whole, have their own limit (ZAP_BATCH_BYTES). NDJSON has no limit.
        request_max_body_size=None,
        responses=problem_specs(400, 413, 415, 422, 503),
        middleware=[few_at_once],
    )
    async def predict(
        self,
        request: Request[Any, Any, State],
        state: State,
        on_error: Annotated[
            Literal["fail", "skip"],
            QueryParameter(
                description="JSON and CSV: with fail, one row with an error refuses the whole batch; with skip, the"
                " other rows are answered. NDJSON always answers a bad line with its errors."
            ),
        ] = "fail",
    ) -> Response[BatchReply]:
        """Predict for each row. A row has the fields of a `/predict` body, and is logged and answered like a request.

        JSON is `{"inputs": [...]}`. CSV has the fields as columns, in any order; an empty cell is null, and a missing
        column is a field that is left out. Both are answered in JSON, after the whole batch is committed.
        NDJSON is answered in NDJSON, one line for each line, while the body is still being sent. It is committed in
        groups of 1,000 lines, and each group is answered after its commit. If the stream cannot go on, the last line is
        a problem, whose `line` is the first line that is not answered.
        A row with `"explain": true` gets an explanation. JSON and CSV may have at most 1,000 such rows.
        """
        received_at = utc_now()
        kind = media_type(request, JSON, CSV, NDJSON)
        settings: Settings = state.settings
        batches = BatchPrediction(state.engine, state.driver_histories, state.recent_sessions, settings.wall_time)
        batch = batch_of(request.scope)
        counting = BatchRows(state.engine, key_of(request.scope))
        if kind == NDJSON:

            async def answer(lines: Sequence[Line]) -> bytes:
                await check_again(request.scope, state)
                async with batch.answered(group=True):
                    return await self._answer_lines(batches, lines, state, counting)

            return LineStream(request, answer, state.stopping, settings.stream_seconds)
        body = await _read_body(request, settings.batch_bytes)
        read = partial(read_json if kind == JSON else read_csv, body, settings.batch_rows)
        async with batch.answered(group=False):
            content = await self._answer_rows(batches, read, received_at, state, counting, skip=on_error == "skip")
        return Response(content, media_type=JSON)  # type: ignore[arg-type] # encoded already, off the event loop

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        """Hold a turn. If the database fails a batch, the batches that wait behind it are refused with it.

        Otherwise the waiting batches would take their turns one after the other, and each would wait for the database.

        Raises:
            DatabaseUnavailable: the database failed a batch while this one waited.
            TooBusy: the batches before this one took too long.
        """
        arrived = time.monotonic()
        async with self._turns.taken():
            if self._failed_at > arrived:
                raise DatabaseUnavailable("the database did not answer an earlier batch; send this batch again later")
            try:
                yield
            except (DatabaseUnavailable, LogUnavailable, SQLAlchemyError):
                self._failed_at = time.monotonic()
                raise

    async def _answer_rows(  # noqa: PLR0913 - what the reply depends on
        self,
        batches: BatchPrediction,
        read: Callable[[], Rows],
        received_at: datetime,
        state: State,
        counting: BatchRows,
        *,
        skip: bool,
    ) -> bytes:
        """Return the reply to a whole batch, encoded, after all of its predictions are committed."""

        def work() -> tuple[Rows, Answered]:
            rows = read()
            counting.take(len(rows.texts))
            completed = batches.complete(rows.texts, predictor, received_at)
            if not skip and (refused := refusals(completed)):
                _count(state, [refusal for _, refusal in refused])
                raise invalid_batch(refused, rows.lines)
            _check_explained(completed)
            return rows, batches.answer(completed, predictor, received_at)

        async with self._turn(), _given_back(state, counting):
            # The predictor is read when the batch has its turn, because the version in production may have changed.
            predictor = state.production.predictor
            try:
                rows, answered = await _apart(state, work)
                committed = await _commit(state, predictor, answered)
            except VersionReplaced:
                predictor = await _serving_now(state, predictor)
                rows, answered = await _apart(state, work)
                committed = await _commit(state, predictor, answered)
            if not answered.explain:
                return await _apart(state, lambda: _reply(rows, committed, {}, state))
        # Explanations take long, so the next batch has its turn meanwhile.
        explained = await _explained(state, committed)
        return await _apart(state, lambda: _reply(rows, committed, explained, state))

    async def _answer_lines(
        self, batches: BatchPrediction, lines: Sequence[Line], state: State, counting: BatchRows
    ) -> bytes:
        """Return one NDJSON line for each line, after all of their predictions are committed."""

        def refused(place: int, refusal: Refusal) -> RefusedRow:
            return _refused_row(refusal.errors, lines[place][0])

        def encoded(explained: Mapping[int, Told | str]) -> bytes:
            _count_refused(state, answered)
            return _encoder.encode_lines(_predictions(committed, explained, refused))

        def work() -> Answered:
            counting.take(len(lines))
            return batches.predict([text for _, text in lines], predictor, received_at)

        async with self._turn(), _given_back(state, counting):
            received_at = utc_now()
            # The predictor is read for each group, because the version in production may have changed.
            predictor = state.production.predictor
            try:
                answered = await _apart(state, work)
                committed = await _commit(state, predictor, answered)
            except VersionReplaced:
                predictor = await _serving_now(state, predictor)
                answered = await _apart(state, work)
                committed = await _commit(state, predictor, answered)
            if not answered.explain:
                return await _apart(state, lambda: encoded({}))
        explained = await _explained(state, committed)
        return await _apart(state, lambda: encoded(explained))


@asynccontextmanager
async def _given_back(state: State, counting: BatchRows) -> AsyncGenerator[None, None]:
    """Let the rows of the block not count for their key if they are not answered.

    If the request is cancelled, its rows count, because they may be committed already.
    """
    try:
        yield
    except Exception:
        await _apart(state, counting.give_back)
        raise
    counting.keep()


async def _read_body(request: Request[Any, Any, State], most_bytes: int) -> bytes:
    try:
        return await read_body(request.scope, request.receive, most_bytes)
    except RequestEntityTooLarge:
        said = f"the body has more than {most_bytes:,} bytes (ZAP_BATCH_BYTES); send fewer rows, or send NDJSON"
        raise BatchTooLarge(said) from None


def _check_explained(rows: Sequence[Row]) -> None:
    """Raise BatchTooLarge if too many rows want an explanation."""
    if sum(row.explain for row in rows) > MOST_EXPLAINED:
        raise BatchTooLarge(
            f"at most {MOST_EXPLAINED:,} rows of a batch may have explain: true; send NDJSON, or get the other"
            " explanations from /predictions/{prediction_id}/explanation"
        )


async def _commit(state: State, predictor: Predictor, answered: Answered) -> _Committed:
    logged = await state.prediction_log.record_all(answered.to_log)
    _note_refused_rows(state, answered)
    return _Committed(predictor, answered, logged)


async def _serving_now(state: State, before: Predictor) -> Predictor:
    return await serving_now(state.production, before, state.batch_threads, time.monotonic() + PATIENCE_SECONDS)


async def _explained(state: State, committed: _Committed) -> dict[int, Told | str]:
    """Return the explanations that were asked for, by the place of their answers in the log."""
    places = committed.answered.explain
    answers = [committed.answered.to_log[place].answer for place in places]
    return dict(zip(places, await state.explanations.of_answers(committed.predictor, answers), strict=True))


def _reply(rows: Rows, committed: _Committed, explained: Mapping[int, Told | str], state: State) -> bytes:
    def refused(place: int, refusal: Refusal) -> RefusedRow:
        line = rows.lines[place] if rows.lines else None
        return _refused_row(placed(place, refusal), line)

    _count_refused(state, committed.answered)
    predictions = _predictions(committed, explained, refused)
    answered = len(committed.logged)
    return _encoder.encode(BatchReply("success", answered, len(predictions) - answered, predictions))


async def _apart(state: State, work: Callable[[], _Done]) -> _Done:
    """Call `work` in a thread, and return its result.

    If the request is cancelled, wait until the thread has ended, so that the next batch gets its turn only then.
    """
    ended = asyncio.Event()
    threads: Pool = state.batch_threads
    try:
        return await threads.to_its_end(work, after=lambda _: ended.set())
    except asyncio.CancelledError:
        await ended.wait()
        raise


def _note_refused_rows(state: State, answered: Answered) -> None:
    """Count refused rows like refused requests, and write one log line for all of them."""
    n = len(answered.rows) - len(answered.to_log)
    if n:
        state.refused_requests += n
        log.info("refused rows", rows=n, of=len(answered.rows), refused_requests=state.refused_requests)


def _count_refused(state: State, answered: Answered) -> None:
    if len(answered.rows) > len(answered.to_log):
        _count(state, [row for row in answered.rows if isinstance(row, Refusal)])


def _count(state: State, refused: Sequence[Refusal]) -> None:
    """Count refused rows by field and reason."""
    state.refusals.note(REFUSED, row_counts([refusal.errors for refusal in refused], NAMES))


def _predictions(
    committed: _Committed,
    explained: Mapping[int, Told | str],
    refused: Callable[[int, Refusal], RefusedRow],
) -> list[PredictReply | RefusedRow]:
    answers = iter(enumerate(committed.logged))
    predictions: list[PredictReply | RefusedRow] = []
    for place, row in enumerate(committed.answered.rows):
        if isinstance(row, Refusal):
            predictions.append(refused(place, row))
        else:
            number, logged = next(answers)
            predictions.append(PredictReply.of(row, logged, explained.get(number)))
    return predictions


def _refused_row(errors: Sequence[dict[str, str]], line: int | None) -> RefusedRow:
    return RefusedRow([FieldError(one["pointer"], one["detail"]) for one in errors], line)
