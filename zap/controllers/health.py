"""GET /health/live and /health/ready."""

from typing import Annotated, Literal

from litestar import Controller, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Meta, Struct, UnsetType

from zap import __version__
from zap.errors import ZapError
from zap.public import PUBLIC


class Live(Struct):
    status: Literal["alive"]
    version: str


class Restored(Struct):
    """When and why the model file was restored from the database."""

    restored_at: str
    model_version: int
    reason: str


class Ready(Struct):
    """Whether this process can answer predictions, and the reason if it cannot."""

    status: Literal["ready", "not ready"]
    checks: Annotated[dict[str, str], Meta(description="the result of each check: ok, or what is wrong")]
    model_version: int | None
    refused_version: Annotated[
        str | None, Meta(description="the version that should serve but cannot be loaded here, and why")
    ]
    model_warning: Annotated[
        str | None,
        Meta(
            description="what is wrong with the version that serves: a baseline would predict better, or it was trained"
            " on synthetic sessions; null if nothing is"
        ),
    ]
    model_file_restored: Annotated[
        Restored | None, Meta(description="the newest restoring of the model file; null if it never was restored")
    ]
    refused_requests: Annotated[
        int, Meta(description="how many 4xx replies and refused rows of batches this process has sent since its start")
    ]
    database_warning: Annotated[
        str | UnsetType,
        Meta(description="a warning about the database although it works; left out if there is no warning"),
    ] = UNSET
    read_replica: Annotated[
        str | UnsetType,
        Meta(description="ok, or why the replica is not used; left out without ZAP_READ_DATABASE_URL"),
    ] = UNSET


class HealthController(Controller):
    path = "/health"
    tags = ("health",)
    opt = PUBLIC

    @get("/live", operation_id="live", summary="Whether the process answers")
    async def live(self) -> Live:
        """Answer without looking at the database or the model."""
        return Live("alive", __version__)

    @get(
        "/ready",
        operation_id="ready",
        summary="Whether predictions can be answered, and the reason if not",
        responses={503: ResponseSpec(Ready, description="Not ready", generate_examples=False)},
    )
    async def ready(self, state: State) -> Response[Ready]:
        checks = {
            **await state.database_checks.results(),
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
                state.production.warning if version else None,
                state.production.file_restored,
                state.refused_requests,
                state.database_watch.warning or UNSET,
                state.reads.status or UNSET,
            ),
            status_code=200 if ready else 503,
        )


def _check_model(state: State) -> str:
    try:
        _ = state.production.predictor
    except ZapError as error:
        return error.message
    return "ok"
