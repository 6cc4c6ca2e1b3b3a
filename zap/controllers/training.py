"""POST /train-model: one training in a process of its own, and its report."""

import asyncio
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import RawBody

from zap.controllers.parameters import check_json_or_nothing
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import RunDetail, TrainReply
from zap.db.training_runs import read_run
from zap.errors import ZapError
from zap.ml.training_options import parse_options
from zap.training_process import TrainingProcesses


class ReportedError(ZapError):
    """An error that the training process left in its run, as problem details."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self._problem = problem
        # The instance's status, not the class's: it is what the other process said.
        self.status_code = problem["status"]  # type: ignore[misc]

    def problem(self) -> dict[str, Any]:
        return self._problem


class TrainingController(Controller):
    tags = ("training",)

    @post(
        "/train-model",
        status_code=200,
        operation_id="trainModel",
        summary="Train on the history and serve the new model",
        request_max_body_size=65536,
        responses={
            202: ResponseSpec(
                RunDetail,
                description="The training has begun; Location says where it is (with Prefer: respond-async)",
                generate_examples=False,
            ),
            **problem_specs(400, 401, 409, 413, 415, 422, 500, 503),
        },
    )
    async def train(self, request: Request[Any, Any, State], body: RawBody, state: State) -> Response[TrainReply]:
        """Needs no body. Answers when the training is over: seconds for thousands of sessions.

        With the header `Prefer: respond-async` it answers at once with 202: the training is followed at
        `/training-runs/{run_id}` and `/training-runs/{run_id}/events`, and cancelled with DELETE.

        With `"windows": true` the model is also tried on five rolling windows of the history, and `beats_baseline`
        follows from them. With `"tune": true` hyper-parameters are searched first, on the first 90 % only: minutes for
        thousands of sessions. This training and later ones use what was found. With `"promote": "if_better"` the new
        version serves only if it is better than the one in production on sessions that neither learned from.

        The charger type that is learned is the one that drivers used, not the one that would have been best. The
        scores are those of the last 10 % of the sessions, beside what guessing scores on the same sessions. Where the
        history is the synthetic one of `zap sample-history`, the reply says so: its scores mean nothing elsewhere.
        """
        check_json_or_nothing(request, body)
        options = await asyncio.to_thread(parse_options, body, state.settings.wall_time)
        processes: TrainingProcesses = state.training_processes
        run_id = await processes.start(options)
        if _prefers_async(request):
            run = await asyncio.to_thread(read_run, state.engine, run_id)
            headers = {"Location": f"/training-runs/{run_id}", "Preference-Applied": "respond-async"}
            return Response(RunDetail(**run), status_code=202, headers=headers)  # type: ignore[arg-type]
        run = await processes.ended(run_id)
        if run["status"] != "finished":
            raise ReportedError(run["report"])
        return Response(run["report"])


def _prefers_async(request: Request[Any, Any, State]) -> bool:
    """Whether the client prefers not to wait (RFC 7240)."""
    preferences = ",".join(request.headers.getall("Prefer", [])).split(",")
    return any(one.partition(";")[0].strip().lower() == "respond-async" for one in preferences)
