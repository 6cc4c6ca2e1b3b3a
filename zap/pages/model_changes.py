"""/pages/models/.../promote and /pages/models/rollback: a question that says what will happen, and the change."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy import Engine

from zap.db.monitoring.alarms import list_alarms
from zap.db.monitoring.trials import trials_now
from zap.db.versions.model_registry import production_version, read_version
from zap.db.versions.promotions import promote_version, roll_back, rollback_target
from zap.errors import InvalidRequest, NotPromotable
from zap.formats.promotion_reason import Reason
from zap.pages.alarms import alarm_of
from zap.pages.fields import errors_by_field, filled
from zap.pages.model_comparison import beside
from zap.pages.models import known_number
from zap.pages.page import answer, read_form, see_other
from zap.public import PAGE
from zap.scopes import PROMOTE, READ, needs
from zap.sentences import say
from zap.server.access import name_of

WHO_AND_WHY = ("who", "why")
# The newest alarms among which the harm of a version is looked for.
_ALARMS = 200


@get("/pages/models/{written:str}/promote", opt=PAGE | needs(READ, PROMOTE))
async def ask_promote(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Ask whether to put a version into production.

    Raises:
        NotFound: there is no such version.
    """
    number = known_number(written, "model version")
    return await _ask(request, number, is_rollback=False)


@post("/pages/models/{written:str}/promote", status_code=200, opt=PAGE | needs(READ, PROMOTE))
async def promote(request: Request[Any, Any, State], written: FromPath[str]) -> Response[Any]:
    """Put a version into production, if the version still serves that the question named.

    Raises:
        NotFound: there is no such version.
        NotPromotable: the version cannot serve.
    """
    form = await read_form(request)
    number = known_number(written, "model version")
    return await _change(request, number, form, is_rollback=False)


@get("/pages/models/rollback", opt=PAGE | needs(READ, PROMOTE))
async def ask_roll_back(request: Request[Any, Any, State]) -> Response[bytes]:
    """Ask whether to put the previous version back into production.

    Raises:
        NotPromotable: there is no previous version.
    """
    return await _ask(request, await _target(request), is_rollback=True)


@post("/pages/models/rollback", status_code=200, opt=PAGE | needs(READ, PROMOTE))
async def roll_models_back(request: Request[Any, Any, State]) -> Response[Any]:
    """Put the previous version back into production, if the question named the present versions.

    Raises:
        NotPromotable: there is no previous version, or it cannot serve.
    """
    form = await read_form(request)
    return await _change(request, await _target(request), form, is_rollback=True)


async def _target(request: Request[Any, Any, State]) -> int:
    state = request.app.state
    target: int | None = await state.page_threads.run(rollback_target, state.engine)
    if target is None:
        raise NotPromotable(say("no version served before the present one; promote another version by its number"))
    return target


async def _change(
    request: Request[Any, Any, State], number: int, form: Mapping[str, str], *, is_rollback: bool
) -> Response[Any]:
    state = request.app.state
    serving = await state.page_threads.run(production_version, state.engine)
    seen = None if serving is None else serving.model_version
    now = "" if seen is None else str(seen)
    if (form.get("serving"), form.get("target")) != (now, str(number)):
        return await _ask(request, number, form, is_rollback=is_rollback, has_changed=True, status=409)
    try:
        reason = Reason.read(filled(form, WHO_AND_WHY)).said_by(name_of(request.scope))
    except InvalidRequest as refused:
        errors = errors_by_field(refused)
        return await _ask(request, number, form, errors, is_rollback=is_rollback, status=422)
    # Another request, such as the second one of a double click, may make a change before this one does.
    change = (roll_back, reason, seen) if is_rollback else (promote_version, number, reason, seen)
    await state.threads.to_its_end(state.production.changed, *change)
    return see_other(request, f"/pages/models/{number}")


async def _ask(  # noqa: PLR0913 - what a question shows
    request: Request[Any, Any, State],
    number: int,
    form: Mapping[str, str] | None = None,
    errors: Mapping[str, list[str]] | None = None,
    *,
    is_rollback: bool,
    has_changed: bool = False,
    status: int = 200,
) -> Response[bytes]:
    engine = request.app.state.engine
    said = {"is_rollback": is_rollback, "has_changed": has_changed, "form": form or {}, "errors": errors or {}}
    return await answer(request, "model_change.html", lambda: {**said, **_read(engine, number)}, status=status)


def _read(engine: Engine, number: int) -> Mapping[str, Any]:
    """Return what serves now, what will serve, how their scores differ, and the trials that end."""
    target, version = read_version(engine, number), production_version(engine)
    serving = None if version is None else read_version(engine, version.model_version)
    differs = serving is not None and serving["model_version"] != number
    return {
        "target": target,
        "serving": serving,
        "found": beside(engine, serving["model_version"], number) if serving and differs else None,
        "trials": trials_now(engine),
        "harm": alarm_of(list_alarms(engine, _ALARMS, standing=False), "harm", number),
    }
