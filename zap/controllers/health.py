"""GET /health/live and /health/ready."""

import asyncio

import structlog
from litestar import Controller, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy.exc import SQLAlchemyError

from zap import __version__
from zap.controllers.problems import DOES_NOT_ANSWER
from zap.controllers.schemas import Live, Ready
from zap.db.model_file import last_restored
from zap.db.prediction_log import check_writable
from zap.db.schema import check_at_head
from zap.errors import DatabaseUnavailable, ZapError

log = structlog.get_logger(__name__)


class HealthController(Controller):
    path = "/health"
    tags = ("health",)

    @get("/live", operation_id="live", summary="The process answers")
    async def live(self) -> Live:
        """Touches nothing: neither the database nor the model."""
        return Live("alive", __version__)

    @get(
        "/ready",
        operation_id="ready",
        summary="Predictions can be answered, or what is in the way",
        responses={503: ResponseSpec(Ready, description="Not ready", generate_examples=False)},
    )
    async def ready(self, state: State) -> Response[Ready]:
        checks = {
            "database": await asyncio.to_thread(_check_database, state),
            "log": await asyncio.to_thread(_check_log, state),
            "model": _check_model(state),
        }
        ready = all(result == "ok" for result in checks.values())
        version = state.production.predictor.model_version if checks["model"] == "ok" else None
        return Response(
            Ready(
                "ready" if ready else "not ready",
                checks,
                version,
                state.production.refused,
                await asyncio.to_thread(last_restored, state.settings.model_file),
                state.refused_requests,
            ),
            status_code=200 if ready else 503,
        )


def _check_database(state: State) -> str:
    try:
        check_at_head(state.engine)
    except DatabaseUnavailable as error:
        log.error("the database does not answer", reason=error.message)
        return DOES_NOT_ANSWER
    except ZapError as error:
        return error.message
    return "ok"


def _check_log(state: State) -> str:
    try:
        check_writable(state.engine)
    except SQLAlchemyError:
        return "the log cannot be written to"
    return "ok"


def _check_model(state: State) -> str:
    try:
        _ = state.production.predictor
    except ZapError as error:
        return error.message
    return "ok"
