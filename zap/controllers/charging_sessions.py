"""POST /charging-sessions: what the app reports of sessions, from their start to their end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Controller, Request, Router, post
from litestar.datastructures import State
from litestar.params import RawBody

from zap.controllers.problems import problem_specs
from zap.controllers.schemas import SessionsReply
from zap.db.engine import PATIENCE_SECONDS
from zap.db.session_reports import report_sessions
from zap.errors import DatabaseUnavailable, UnsupportedMediaType
from zap.ml.session_report import parse_report


class ChargingSessionController(Controller):
    tags = ("sessions",)

    def __init__(self, owner: Router) -> None:
        super().__init__(owner)
        # The database lets one report in at a time. Those that wait do so here: each in a thread of its own they would
        # soon keep all threads from whoever else needs one.
        self._turn = asyncio.Lock()

    @post(
        "/charging-sessions",
        status_code=200,
        operation_id="reportChargingSessions",
        summary="Report charging sessions when they start and again when they end",
        # A thousand whole sessions take half a megabyte.
        request_max_body_size=2 * 1024 * 1024,
        responses=problem_specs(400, 401, 413, 415, 422, 503),
    )
    async def report(self, request: Request[Any, Any, State], body: RawBody, state: State) -> SessionsReply:
        """One session or many: all are committed before this is answered, or none.

        A session is known by its `session_id`. The first report of it needs `user_id`, `charger_type` and
        `charging_start_time`; later ones add or correct what they give. What is left out or null erases nothing, and
        the same report again changes nothing, so that one without an answer can be sent again.
        """
        if request.content_type[0] != "application/json":
            raise UnsupportedMediaType("send the header Content-Type: application/json")
        report = await asyncio.to_thread(parse_report, body, state.settings.wall_time)
        async with self._one_at_a_time():
            reported = await asyncio.to_thread(report_sessions, state.engine, report)
        state.driver_histories.forget(reported.user_ids)
        return SessionsReply("success", reported.added, reported.updated, reported.unchanged)

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncGenerator[None, None]:
        try:
            await asyncio.wait_for(self._turn.acquire(), PATIENCE_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable("the reports in front of this one take too long") from None
        try:
            yield
        finally:
            self._turn.release()
