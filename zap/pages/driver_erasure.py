"""/pages/erase-driver and /pages/export-driver: erase a driver after a question, and download what is held of one.

The id is in the query, because the page of a driver takes every path below its own.
"""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.response import Stream

from zap.errors import NotFound
from zap.flows.erasure_preview import preview_erasure
from zap.formats.request import USER_ID
from zap.pages.listed import driver_path
from zap.pages.page import PAGE_HEADERS, answer, read_form
from zap.pages.query import Query
from zap.pages.texts import marked
from zap.public import PAGE, TAKES_ITS_TIME
from zap.scopes import ERASE, READ, needs
from zap.sentences import say
from zap.server.driver_rights import EXPORT_HEADERS, ZIP

# What the rows of a table are, for people. A table without words is shown by its name.
COUNTED = {
    "ChargingSessions": marked("charging sessions"),
    "session_facts": marked("facts of sessions"),
    "session_text_ids": marked("text ids of sessions"),
    "session_predictions": marked("answers that sessions named"),
    "session_changes": marked("rows of the log of changed sessions"),
    "Users": marked("the driver"),
    "Vehicles": marked("vehicles"),
    "inference_inputs": marked("requests"),
    "predictions": marked("answers"),
    "outcomes": marked("outcomes of answers"),
    "trial_predictions": marked("answers of trials"),
    "model_versions": marked("examples that versions keep"),
    "monitor_states": marked("samples of the monitor of drift"),
}


@get("/pages/erase-driver", opt=PAGE | needs(READ, ERASE))
async def ask_erase(request: Request[Any, Any, State]) -> Response[bytes]:
    """Ask whether to erase a driver, and say what will go.

    Raises:
        NotFound: no driver is named, or no driver can have the id.
    """
    state, user_id = request.app.state, _named(Query(request).text(USER_ID))

    def read() -> Mapping[str, Any]:
        found = preview_erasure(state.engine, state.settings, user_id)
        return {"found": found, "counted": COUNTED, "driver": driver_path(found.user_id)}

    return await answer(request, "driver_erase.html", read)


@post("/pages/erase-driver", status_code=200, opt=PAGE | TAKES_ITS_TIME | needs(READ, ERASE))
async def erase(request: Request[Any, Any, State]) -> Response[bytes]:
    """Erase a driver, and show what was erased.

    Raises:
        NotFound: zap holds nothing of such a driver.
        FollowerBehind, NoErasureKey: nothing was changed.
    """
    form = await read_form(request)
    user_id = _named(form.get(USER_ID))
    report = await request.app.state.driver_rights.erase(user_id)
    shown = {"user_id": user_id, "report": report, "counted": COUNTED}
    return await answer(request, "driver_erased.html", lambda: shown, headers={"Cache-Control": "no-store"})


@get("/pages/export-driver", opt=PAGE | TAKES_ITS_TIME | needs(READ, ERASE))
async def export(request: Request[Any, Any, State]) -> Stream:
    """Send all that is held of a driver, as a ZIP.

    Raises:
        NotFound: zap holds nothing of such a driver.
    """
    user_id = _named(Query(request).text(USER_ID))
    portions = await request.app.state.driver_rights.export(user_id)
    return Stream(portions, media_type=ZIP, headers={**PAGE_HEADERS, **EXPORT_HEADERS})


def _named(user_id: str | None) -> str:
    if user_id is None:
        raise NotFound(say("name a driver: {example}", example="?user_id=..."))
    return user_id
