"""GET /quality: what versions scored on the sessions that followed their answers."""

from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import QueryParameter

from zap.controllers.problems import problem_specs
from zap.controllers.quality_replies import QualityReply
from zap.controllers.time_parameters import check_range, day_parameter
from zap.flows.quality import MOST_DAYS, By, Kind, Question, read_quality
from zap.formats.time_range import QUERY_DAY_PATTERN, wrong_days
from zap.formats.values import LARGEST_ID
from zap.scopes import READ, needs
from zap.settings import Settings

_DAY = {"pattern": QUERY_DAY_PATTERN}


class QualityController(Controller):
    tags = ("quality",)

    @get(
        "/quality",
        operation_id="getQuality",
        opt=needs(READ),
        summary="What versions scored on the sessions that followed their answers",
        responses=problem_specs(400, 404, 503),
    )
    async def read(  # noqa: PLR0913, PLR0917 - the parameters of the route
        self,
        state: State,
        # A parameter that may be null would also accept the text "null".
        version: Annotated[
            int, QueryParameter(ge=0, le=LARGEST_ID, description="the model version; 0: all versions")
        ] = 0,
        first: Annotated[
            str,
            QueryParameter(
                name="from", schema_extra=_DAY, description="the first day; default: 90 days before the last day"
            ),
        ] = "",
        last: Annotated[
            str, QueryParameter(name="to", schema_extra=_DAY, description="the last day; default: today")
        ] = "",
        by: Annotated[
            By, QueryParameter(description="the periods that are shown one by one; total: no periods")
        ] = "total",
        kind: Annotated[
            Kind,
            QueryParameter(description="live, or backtest for requests about a moment that was long past"),
        ] = "live",
    ) -> QualityReply:
        """Read the scores of versions on matched outcomes, each beside the baselines and the promise of the test.

        A day is the day that a request asked about, as the drivers' wall time.
        """
        settings: Settings = state.settings
        question = Question(day_parameter("from", first), day_parameter("to", last), version or None, by, kind)
        now = settings.wall_now()
        check_range(wrong_days(*question.days(now.date()), MOST_DAYS))
        report = await state.threads.run(state.reads.read, read_quality, question, now, settings.horizon)
        return msgspec.convert(report, QualityReply)
