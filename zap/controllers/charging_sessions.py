"""POST /charging-sessions: reports of sessions that start, change and end."""

from functools import partial
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Router, post
from litestar.datastructures import State
from msgspec import Meta, Struct

from zap.controllers.parameters import media_type, read_body
from zap.controllers.problems import problem_specs
from zap.db.history.session_reports import ReportedSessions, report_sessions
from zap.db.tables import utc_now
from zap.errors import DatabaseUnavailable
from zap.formats.session_report import Report, parse_report
from zap.threads import PATIENCE_SECONDS, Turns

# A thousand whole sessions take half a megabyte.
_LARGEST_BODY = 2 * 1024 * 1024


class SessionsReply(Struct):
    """The number of sessions that a report added or changed; all are committed before this reply is sent."""

    status: Literal["success"]
    added: Annotated[int, Meta(description="how many sessions were new")]
    updated: Annotated[int, Meta(description="how many known sessions were changed by the report")]
    unchanged: Annotated[int, Meta(description="how many known sessions already had all reported values")]


class ChargingSessionController(Controller):
    tags = ("sessions",)

    def __init__(self, owner: Router) -> None:
        super().__init__(owner)
        # The database commits one report at a time. Reports wait here, on the event loop: waiting in threads, they
        # would soon take all threads from other requests.
        self._turns = Turns(PATIENCE_SECONDS, partial(DatabaseUnavailable, "the reports before this one take too long"))

    @post(
        "/charging-sessions",
        status_code=200,
        operation_id="reportChargingSessions",
        summary="Report charging sessions when they start and again when they end",
        responses=problem_specs(400, 413, 415, 422, 503),
    )
    async def report(self, request: Request[Any, Any, State], state: State) -> SessionsReply:
        """Store a report of one session or many. All sessions are committed before the reply is sent, or none.

        A session is identified by its `session_id`. Its first report needs `user_id`, `charger_type` and
        `charging_start_time`. Later reports add or correct values. A field that is left out or null erases nothing. A
        report that is sent twice changes nothing the second time, so a client without a reply can send it again.
        """
        media_type(request, "application/json")
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        report = await state.threads.run(parse_report, body, state.settings.wall_time)
        await self._turns.take()
        # The thread goes on if this request is cancelled, so the next report gets its turn when the thread ends.
        reported = await state.threads.to_its_end(_write, state, report, after=lambda _: self._turns.give())
        return SessionsReply("success", reported.added, reported.updated, reported.unchanged)


def _write(state: State, report: Report) -> ReportedSessions:
    """Commit a report, and drop its drivers' remembered histories so that the next request reads them again."""
    reported = report_sessions(state.engine, report, state.settings.wall_time(utc_now()))
    state.driver_histories.forget(reported.user_ids)
    return reported
