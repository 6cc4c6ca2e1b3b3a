"""/pages/alarms: what is wrong, what was wrong before, and who has seen it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter
from sqlalchemy import Engine

from zap.db.monitoring.alarms import acknowledge_alarm, list_alarms
from zap.errors import InvalidRequest
from zap.flows.monitor_changes import subject_of
from zap.formats.acknowledgement import Acknowledgement
from zap.formats.values import LARGEST_ID
from zap.pages.fields import errors_by_field
from zap.pages.models import known_number
from zap.pages.page import answer, answer_reading, read_form, see_other
from zap.public import PAGE
from zap.scopes import READ, TRAIN, needs
from zap.server.access import name_of

_ALARMS = 20
Before = Annotated[int, QueryParameter(name="before", ge=1, le=LARGEST_ID)]


def alarm_of(alarms: Sequence[Mapping[str, Any]], kind: str, version: int) -> Mapping[str, Any] | None:
    """Return the newest of these alarms that has a kind and is about a version; None if there is none."""
    subject = subject_of(version)
    return next((one for one in alarms if one["kind"] == kind and one["subject"] == subject), None)


@get("/pages/alarms", opt=PAGE | needs(READ))
async def alarms(request: Request[Any, Any, State], before: Before = LARGEST_ID) -> Response[bytes]:
    """Show the alarms, newest first."""
    return await answer_reading(request, "alarms.html", _read, before)


@post("/pages/alarms/{written:str}/acknowledge", status_code=200, opt=PAGE | needs(READ, TRAIN))
async def acknowledge(request: Request[Any, Any, State], written: FromPath[str]) -> Response[Any]:
    """Store who has seen an alarm.

    Raises:
        NotFound: there is no such alarm.
    """
    form = await read_form(request)
    number, state = known_number(written, "alarm"), request.app.state
    try:
        seen = Acknowledgement.read({"who": form.get("who", "").strip() or name_of(request.scope) or ""})
    except InvalidRequest as refused:
        said = {"refused": number, "typed": form.get("who", ""), "errors": errors_by_field(refused)}
        return await answer(request, "alarms.html", lambda: {**_read(state.engine, LARGEST_ID), **said}, status=422)
    await state.threads.to_its_end(acknowledge_alarm, state.engine, number, seen.who)
    return see_other(request, "/pages/alarms")


@get("/pages/alarms/{written:str}/acknowledge", opt=PAGE | needs(READ))
async def acknowledged(request: Request[Any, Any, State], written: FromPath[str]) -> Response[None]:
    """Go to the alarms: the form was refused, and now the browser asks for its address."""
    del written
    return see_other(request, "/pages/alarms")


def _read(engine: Engine, before: int) -> Mapping[str, Any]:
    found = list_alarms(engine, _ALARMS + 1, before, standing=False)
    return {
        # They are all on the first page, so the pages after it have only past alarms.
        "standing": list_alarms(engine, _ALARMS, standing=True) if before == LARGEST_ID else [],
        "past": [one for one in found[:_ALARMS] if one["until"] is not None],
        "older": found[_ALARMS - 1]["alarm_id"] if len(found) > _ALARMS else None,
        "is_newest": before == LARGEST_ID,
        "refused": None,
    }
