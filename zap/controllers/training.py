"""POST /train-model: start a training in its own process, and return its report."""

from typing import Any

from litestar import Controller, Request, Response, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec

from zap.controllers.parameters import check_json_or_nothing
from zap.controllers.problems import problem_specs
from zap.controllers.training_runs import RunDetail
from zap.db.runs.training_runs import read_run
from zap.errors import ZapError
from zap.flows.training_report import TrainReply
from zap.formats.training_options import TrainingOptions, needed_for
from zap.public import TAKES_ITS_TIME, public_path
from zap.scopes import TRAIN, needs
from zap.server.access import check_scopes
from zap.server.bodies import read_body
from zap.server.training_jobs import TrainingProcesses

_LARGEST_BODY = 65536


class ReportedError(ZapError):
    """An error that the training process stored in its run, as problem details."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self._problem = problem
        # The status is set on the instance, because it depends on the error of the training process.
        self.status_code = problem["status"]  # type: ignore[misc]

    def problem(self) -> dict[str, Any]:
        return self._problem


class TrainingController(Controller):
    tags = ("training",)

    @post(
        "/train-model",
        status_code=200,
        operation_id="trainModel",
        opt=TAKES_ITS_TIME | needs(TRAIN),
        summary="Train on the history and serve the new model",
        responses={
            202: ResponseSpec(
                RunDetail,
                description="The training has begun; Location has the path of its run (with Prefer: respond-async)",
                generate_examples=False,
            ),
            **problem_specs(400, 409, 413, 415, 422, 500, 503),
        },
    )
    async def train(self, request: Request[Any, Any, State], state: State) -> Response[TrainReply]:
        """Train on the history and reply when the training is over. No body is needed.

        A training takes seconds for thousands of sessions. With the header `Prefer: respond-async` the reply is sent at
        once, with status 202. Follow the training at `/training-runs/{run_id}` and `/training-runs/{run_id}/events`,
        and cancel it with DELETE.

        `verdict` compares the model with every baseline: `better`, `worse`, or `not_shown`. `judged` describes the
        sessions that decide it.

        - `"windows": true` also tests the model on rolling windows of the history. The verdict then uses the sessions
          of all windows, except sessions that a search for hyper-parameters has seen.
        - `"tune": true` first searches for hyper-parameters, on the first 90 % of the sessions only. For thousands of
          sessions this takes about a minute. This training and later trainings use the hyper-parameters found.
        - `"nested": true` makes a search of its own in each window.
        - `"promote": "if_better"` puts the new version into production only if it is better than the version in
          production on sessions that neither has learned from, and if its `verdict` is not `worse`.
        - `"promote": "trial"` begins a trial: the new version answers the requests of the next weeks too, unseen, and
          is promoted if it is better than the version in production. `promotion.trial` is the number of the trial.
        - `"promote": "never"` only trains. All other values may put a version into production, so they need a key with
          the scope promote too.

        The model learns the charger type that drivers used, which is not always the type that would have been best.
        The scores are measured on the last 10 % of the sessions, and compared with the baselines' scores on the same
        sessions. If the history is synthetic (from `zap sample-history`), the reply says so: such scores say nothing
        about real drivers.
        """
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        check_json_or_nothing(request, body)
        options = await state.threads.run(TrainingOptions.parse, body, state.settings.wall_time)
        check_scopes(request.scope, needed_for(options.promote), f"promote: {options.promote}")
        processes: TrainingProcesses = state.training_processes
        run_id = await processes.start(options)
        if _prefers_async(request):
            run = await state.threads.run(read_run, state.engine, run_id)
            headers = {
                "Location": public_path(request.scope, f"/training-runs/{run_id}"),
                "Preference-Applied": "respond-async",
            }
            return Response(RunDetail(**run), status_code=202, headers=headers)  # type: ignore[arg-type]
        run = await processes.ended(run_id)
        if run["status"] != "finished":
            raise ReportedError(run["report"])
        return Response(run["report"])


def _prefers_async(request: Request[Any, Any, State]) -> bool:
    """Return whether the client prefers not to wait (RFC 7240)."""
    preferences = ",".join(request.headers.getall("Prefer", [])).split(",")
    return any(one.partition(";")[0].strip().lower() == "respond-async" for one in preferences)
