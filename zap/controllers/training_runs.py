"""/training-runs: what trainings are doing, how they went, and how one is ended."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from litestar import Controller, Request, Response, delete, get
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.response import ServerSentEvent, ServerSentEventMessage
from sqlalchemy import Engine

from zap.controllers.parameters import Before, Limit, check_number
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import RunDetail, Runs, RunSummary
from zap.db.training_runs import cancel_run, events_after, list_runs, read_run
from zap.errors import InvalidRequest
from zap.ml.json_body import LARGEST_ID

# The last event, by its name and its id.
_END = "end"
# How often the database is asked for news, and how often a silent stream says that it is still there.
_ASK_SECONDS = 0.5
_PING_SECONDS = 15.0


class TrainingRunController(Controller):
    path = "/training-runs"
    tags = ("training",)

    @get("/", operation_id="listTrainingRuns", summary="The newest training runs", responses=problem_specs(400, 503))
    async def list(self, state: State, limit: Limit = 20, before: Before = None) -> Runs:
        rows = await asyncio.to_thread(list_runs, state.engine, limit, before)
        return Runs([RunSummary(**row) for row in rows])

    @get(
        "/{run_id:int}",
        operation_id="getTrainingRun",
        summary="A training run: how far it has come, or what came of it",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], run_id: FromPath[int], state: State) -> RunDetail:
        check_number(request, run_id, "training run")
        return RunDetail(**await asyncio.to_thread(read_run, state.engine, run_id))

    @get(
        "/{run_id:int}/events",
        operation_id="followTrainingRun",
        summary="A training run as server-sent events",
        media_type="text/event-stream",
        responses=problem_specs(400, 404, 422, 503),
    )
    async def follow(
        self, request: Request[Any, Any, State], run_id: FromPath[int], state: State
    ) -> ServerSentEvent | Response[None]:
        """Each event `progress` is a phase, how far it has come, and while boosting the log loss on the training rows.

        The last event is `end`, with the status of the run. Who was cut off goes on with `Last-Event-ID`, as browsers
        do by themselves; after the end the answer is 204, nothing more.
        """
        check_number(request, run_id, "training run", ending="/events")
        last = _last_event(request)
        await asyncio.to_thread(read_run, state.engine, run_id)
        if last is None:
            # There is nothing more: a browser would ask again for ever.
            return Response(None, status_code=204)
        return ServerSentEvent(_events(state, run_id, last))

    @delete(
        "/{run_id:int}",
        status_code=200,
        operation_id="cancelTrainingRun",
        summary="Cancel a training run",
        responses=problem_specs(401, 404, 409, 503),
    )
    async def cancel(self, request: Request[Any, Any, State], run_id: FromPath[int], state: State) -> RunDetail:
        """It can change nothing any more when this is answered; its process ends within two seconds.

        The version in production stays as it is, and what the run has logged is removed.
        """
        check_number(request, run_id, "training run")
        await asyncio.to_thread(cancel_run, state.engine, run_id)
        return RunDetail(**await asyncio.to_thread(read_run, state.engine, run_id))


def _last_event(request: Request[Any, Any, State]) -> int | None:
    """The event after which the client goes on; None after the last."""
    sent = request.headers.get("Last-Event-ID", "0")
    if sent == _END:
        return None
    if not (sent.isascii() and sent.isdigit() and int(sent[:19]) <= LARGEST_ID and len(sent) <= 19):
        raise InvalidRequest([{"pointer": "#", "detail": "the header Last-Event-ID must be the id of an event"}])
    return int(sent)


def _news(engine: Engine, run_id: int, last: int) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    # In this order: whatever was told before the end is sent before the end is.
    return read_run(engine, run_id), events_after(engine, run_id, last)


async def _events(state: State, run_id: int, last: int) -> AsyncGenerator[ServerSentEventMessage, None]:
    stopping: asyncio.Event = state.stopping
    silent = 0.0
    while not stopping.is_set():
        run, told = await asyncio.to_thread(_news, state.engine, run_id, last)
        for event_id, data in told:
            yield ServerSentEventMessage(event="progress", id=str(event_id), data=json.dumps(data))
            last, silent = event_id, 0.0
        if run["status"] != "running":
            version = (run["report"] or {}).get("model_version")
            end = {"status": run["status"], "model_version": version}
            yield ServerSentEventMessage(event=_END, id=_END, data=json.dumps(end))
            return
        if silent >= _PING_SECONDS:
            yield ServerSentEventMessage(comment="still running")
            silent = 0.0
        try:
            await asyncio.wait_for(stopping.wait(), _ASK_SECONDS)
        except TimeoutError:
            silent += _ASK_SECONDS
