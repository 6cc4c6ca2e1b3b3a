"""/charging-sessions: reports of sessions that start, change and end, and the removal of sessions."""

from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from litestar import Controller, Request, Router, delete, post
from litestar.datastructures import State
from litestar.params import PathParameter
from msgspec import Meta, Struct, field

from zap.controllers.parameters import media_type
from zap.controllers.problems import counts_refusals, problem_specs
from zap.db.history.session_removal import remove_sessions
from zap.db.history.session_reports import ReportedSessions, report_sessions
from zap.db.monitoring.data_quality_days import REFUSED_REPORTS
from zap.db.tables import utc_now
from zap.errors import DatabaseUnavailable
from zap.formats.session_ids import read_session_id
from zap.formats.session_report import ChargingSession, Report, parse_report
from zap.scopes import REPORT, needs
from zap.server.bodies import read_body
from zap.threads import PATIENCE_SECONDS, Turns

# A thousand whole sessions take half a megabyte.
_LARGEST_BODY = 2 * 1024 * 1024
_Id = Annotated[
    str, PathParameter(description="the session_id of the session's reports or of its file, a number or a text")
]


class SessionsReply(Struct, omit_defaults=True):
    """The number of sessions that a report added or changed; all are committed before this reply is sent.

    `spellings`, `counted_as_null` and `unknown_vehicles` are left out if there is nothing to say.
    """

    status: Literal["success"]
    added: Annotated[int, Meta(description="how many sessions were new")]
    updated: Annotated[int, Meta(description="how many known sessions were changed by the report")]
    unchanged: Annotated[int, Meta(description="how many known sessions already had all reported values")]
    spellings: Annotated[
        dict[str, dict[str, str]],
        Meta(description="for each field, the texts that are stored in another spelling, each with this spelling"),
    ] = field(default_factory=dict)
    counted_as_null: Annotated[
        dict[str, list[str]], Meta(description="for each field, the texts that counted as null, such as NULL or n/a")
    ] = field(default_factory=dict)
    unknown_vehicles: Annotated[
        list[int],
        Meta(
            description="reported vehicles that the table Vehicles does not have; their sessions are stored, but zap"
            " knows no facts about these vehicles"
        ),
    ] = field(default_factory=list)


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
        opt=counts_refusals(REFUSED_REPORTS, ChargingSession.model_fields) | needs(REPORT),
        summary="Report charging sessions when they start and again when they end",
        responses=problem_specs(400, 409, 413, 415, 422, 503),
    )
    async def report(self, request: Request[Any, Any, State], state: State) -> SessionsReply:
        """Store a report of one session or many. All sessions are committed before the reply is sent, or none.

        A session is identified by its `session_id`. Its first report needs `user_id`, `charger_type` and
        `charging_start_time`. Later reports add or correct values. A field that is left out or null erases nothing;
        only a `prediction_id` of null removes the named answer. A report that is sent twice changes nothing the second
        time, so a client without a reply can send it again. A charger type that differs from a stored one only in upper
        and lower case is stored in the stored spelling. If a stored session with the id has another user and another
        start, the reply is 409: the id belongs to that session.
        """
        media_type(request, "application/json")
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        report = await state.threads.run(parse_report, body, state.settings.wall_time)
        await self._turns.take()
        # The thread goes on if this request is cancelled, so the next report gets its turn when the thread ends.
        reported = await state.threads.to_its_end(_write, state, report, after=lambda _: self._turns.give())
        return SessionsReply(
            "success",
            reported.added,
            reported.updated,
            reported.unchanged,
            spellings=reported.spellings,
            counted_as_null=reported.words,
            unknown_vehicles=reported.unknown_vehicles,
        )

    @delete(
        "/charging-sessions/{session_id:str}",
        operation_id="removeChargingSession",
        opt=needs(REPORT),
        summary="Remove a charging session from the history",
        responses=problem_specs(404, 503),
    )
    async def remove(self, request: Request[Any, Any, State], session_id: _Id, state: State) -> None:
        """Remove one session. The removal is committed before the reply is sent.

        Predictions count without the session within two seconds, and the next training does not learn from it. The id
        is the `session_id` of its reports or of its file.
        """
        # A slash in the id is still encoded in Litestar's path.
        sent = request.scope.get("raw_path", b"").partition(b"?")[0].rpartition(b"/")[2]
        number = read_session_id(unquote(sent) if sent else session_id)
        await self._turns.take()
        await state.threads.to_its_end(_remove, state, number, after=lambda _: self._turns.give())


def _remove(state: State, session_id: int | str) -> None:
    """Commit a removal, and drop the driver's remembered history so that the next request reads it again."""
    state.driver_histories.forget(remove_sessions(state.engine, [session_id]))


def _write(state: State, report: Report) -> ReportedSessions:
    """Commit a report, and drop its drivers' remembered histories so that the next request reads them again."""
    reported = report_sessions(state.engine, report, state.settings.wall_time(utc_now()))
    state.driver_histories.forget(reported.user_ids)
    return reported
