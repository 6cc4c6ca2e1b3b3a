"""/training-runs: list, follow and cancel training runs."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, delete, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import ServerSentEvent
from msgspec import Meta, Struct

from zap.controllers.parameters import Before, Limit, check_number
from zap.controllers.problems import problem_specs
from zap.controllers.run_events import last_event, run_events
from zap.db.runs.training_runs import cancel_run, list_runs, read_run
from zap.formats.values import LARGEST_ID
from zap.scopes import READ, TRAIN, needs
from zap.server.access import still_has_key


class RunProgress(Struct, omit_defaults=True):
    """The progress of a training run."""

    phase: str
    done: int
    total: int
    log_loss: Annotated[
        float | None, Meta(description="while boosting: the mean log loss on the training rows so far")
    ] = None


class RunSummary(Struct, omit_defaults=True):
    """A training run in a list."""

    run_id: int
    kind: Annotated[Literal["train", "tune"], Meta(description="tune: only a search for hyper-parameters")]
    status: Literal["running", "finished", "failed", "cancelled"]
    started_at: datetime
    heartbeat_at: Annotated[datetime | None, Meta(description="when its process last reported")]
    finished_at: datetime | None
    options: Annotated[dict[str, Any] | None, Meta(description="the options of the request or the command")]
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class Runs(Struct):
    training_runs: Annotated[list[RunSummary], Meta(description="newest first")]


class RunDetail(RunSummary, kw_only=True):
    """A training run, with its progress or its result."""

    progress: RunProgress | None
    # msgspec encodes a union of structs but cannot describe it: `openapi.py` adds the types to the document.
    report: Annotated[
        dict[str, Any] | None,
        Meta(
            description="null while the run is running. If a training finished: the reply of /train-model; an older zap"
            " wrote replies with fewer fields. If a search finished: its result. If the run failed or was cancelled:"
            " the problem"
        ),
    ]


class TrainingRunController(Controller):
    path = "/training-runs"
    tags = ("training",)

    @get(
        "/",
        operation_id="listTrainingRuns",
        opt=needs(READ),
        summary="The newest training runs",
        responses=problem_specs(400, 503),
    )
    async def list(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> Runs:
        rows = await state.threads.run(state.reads.read, list_runs, limit, before)
        return Runs([RunSummary(**row) for row in rows])

    @get(
        "/{run_id:int}",
        operation_id="getTrainingRun",
        opt=needs(READ),
        summary="A training run with its progress or its result",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], run_id: FromPath[int], state: State) -> RunDetail:
        check_number(request, run_id, "training run")
        return RunDetail(**await state.threads.run(read_run, state.engine, run_id))

    @get(
        "/{run_id:int}/events",
        operation_id="followTrainingRun",
        opt=needs(READ),
        summary="A training run as server-sent events",
        media_type="text/event-stream",
        responses={
            204: ResponseSpec(None, description="No more events follow: the client has received the event `end`"),
            **problem_specs(400, 404, 422, 503),
        },
    )
    async def follow(
        self, request: Request[Any, Any, State], run_id: FromPath[int], state: State
    ) -> ServerSentEvent | Response[None]:
        """Send the events of a training run.

        An event `progress` has the phase, its progress, and while boosting the log loss on the training rows. The last
        event is `end`, with the status of the run. A client that was disconnected continues with `Last-Event-ID`, as
        browsers do by themselves. After `end` the reply to such a request is 204.
        """
        check_number(request, run_id, "training run", ending="/events")
        last = last_event(request)
        await state.threads.run(read_run, state.engine, run_id)
        if last is None:
            # 204 ends the stream: with any other reply a browser would connect again for ever.
            return Response(None, status_code=204)
        goes_on = partial(still_has_key, request.scope, state)
        return ServerSentEvent(run_events(state.run_news, run_id, last, goes_on))

    @delete(
        "/{run_id:int}",
        status_code=200,
        operation_id="cancelTrainingRun",
        opt=needs(TRAIN),
        summary="Cancel a training run",
        responses=problem_specs(404, 409, 503),
    )
    async def cancel(self, request: Request[Any, Any, State], run_id: FromPath[int], state: State) -> RunDetail:
        """Cancel a training run. When this replies, the run can change nothing more.

        Its process ends within two seconds. The version in production is unchanged, and the predictions that the run
        has logged are removed.
        """
        check_number(request, run_id, "training run")
        await state.threads.run(cancel_run, state.engine, run_id)
        return RunDetail(**await state.threads.run(read_run, state.engine, run_id))
