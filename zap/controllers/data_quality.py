"""GET /quality/data: what was found in the fields of requests and of reported sessions, by day."""

from litestar import Controller, get
from litestar.datastructures import State

from zap.controllers.problems import problem_specs
from zap.controllers.time_parameters import FromDay, ToDay, check_range, day_parameter
from zap.db.monitoring.data_quality_days import day_of
from zap.db.tables import utc_now
from zap.flows.data_quality import MOST_DAYS, DataQuality, data_quality, usual_first
from zap.formats.time_range import wrong_days
from zap.scopes import READ, needs


class DataQualityController(Controller):
    tags = ("quality",)

    @get(
        "/quality/data",
        operation_id="getDataQuality",
        opt=needs(READ),
        summary="What was missing, unknown or refused in requests and reports, by field and day",
        responses=problem_specs(400, 503),
    )
    async def read(self, state: State, first: FromDay = "", last: ToDay = "") -> DataQuality:
        """Show what was found in the fields of requests and reported sessions.

        Without `from`, the report has 30 days; it has at most 366. Answered requests are counted when the follower has
        read them, a few seconds after the answer. Refused requests are counted by field and reason, without their
        values, and are in the report within a few seconds. A reported session is counted when its end is reported.
        """
        to = day_parameter("to", last) or day_of(utc_now())
        since = day_parameter("from", first) or usual_first(to)
        check_range(wrong_days(since, to, MOST_DAYS))
        report: DataQuality = await state.threads.run(state.reads.read, data_quality, since, to)
        return report
