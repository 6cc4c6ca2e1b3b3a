"""GET /serving: what all server processes have answered in the last hour, day and week."""

from litestar import Controller, get
from litestar.datastructures import State

from zap.controllers.problems import problem_specs
from zap.flows.serving_figures import ServingFigures, serving_figures
from zap.scopes import READ, needs


class ServingController(Controller):
    tags = ("serving",)

    @get(
        "/serving",
        operation_id="getServing",
        opt=needs(READ),
        summary="Answers a minute, times, errors and log delay of the last hour, day and week",
        responses=problem_specs(503),
    )
    async def read(self, state: State) -> ServingFigures:
        """Show what all server processes and machines have answered, with restarts.

        Each process writes its counts after each minute, so the present minute is not counted yet. A process that is
        killed loses at most the minutes that it has not written. Times are counted in buckets, so a quantile says "at
        most".
        """
        figures: ServingFigures = await state.threads.run(state.reads.read, serving_figures)
        return figures
