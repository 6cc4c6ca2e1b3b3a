"""/alarms: what is wrong now, what was wrong before, and who has seen it."""

from functools import partial
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from zap.controllers.alarm_replies import AlarmRecord, Alarms, alarm_record
from zap.controllers.parameters import Before, Limit, check_json_or_nothing, check_number
from zap.controllers.problems import problem_specs
from zap.db.monitoring.alarms import acknowledge_alarm, list_alarms
from zap.formats.acknowledgement import Acknowledgement
from zap.formats.values import LARGEST_ID
from zap.scopes import READ, TRAIN, needs
from zap.server.access import name_of
from zap.server.bodies import read_body

_LARGEST_BODY = 65536
All = Annotated[bool, QueryParameter(name="all", description="true: also the alarms that were resolved")]


class AlarmController(Controller):
    path = "/alarms"
    tags = ("alarms",)

    @get(
        "/",
        operation_id="listAlarms",
        opt=needs(READ),
        summary="The standing alarms",
        responses=problem_specs(400, 503),
    )
    async def list(self, state: State, *, every: All = False, limit: Limit = 20, before: Before = LARGEST_ID) -> Alarms:
        standing = not every
        rows = await state.threads.run(state.reads.read, partial(list_alarms, standing=standing), limit, before)
        return Alarms([alarm_record(row) for row in rows])

    @post(
        "/{alarm_id:int}/acknowledge",
        status_code=200,
        operation_id="acknowledgeAlarm",
        opt=needs(TRAIN),
        summary="Say who has seen an alarm",
        responses=problem_specs(400, 404, 413, 415, 422, 503),
    )
    async def acknowledge(
        self, request: Request[Any, Any, State], alarm_id: FromPath[int], state: State
    ) -> AlarmRecord:
        """Say who has seen an alarm and takes care of it. The alarm stands until its cause is gone.

        A later name replaces an earlier one.
        """
        check_number(request, alarm_id, "alarm", ending="/acknowledge")
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        check_json_or_nothing(request, body)
        seen = Acknowledgement.parse_said_by(body, name_of(request.scope))
        return alarm_record(await state.threads.to_its_end(acknowledge_alarm, state.engine, alarm_id, seen.who))
