"""GET /pages/drivers/{user_id}: the sessions of a driver and the answers to the driver, side by side."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlencode

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy import Engine

from zap.db.history import driver_sessions
from zap.db.history.driver_sessions import count_sessions, sessions_of_driver
from zap.db.history.drivers import driver_facts, driver_named, drivers_like
from zap.db.log.prediction_list import Wanted
from zap.db.monitoring import driver_outcomes
from zap.db.monitoring.driver_outcomes import outcomes_of_driver
from zap.errors import NotFound
from zap.flows.prediction_list import list_predictions
from zap.formats.request import USER_ID
from zap.formats.values import CONTROL, LONGEST_TEXT
from zap.pages.drawings import MOST_POINTS, Kind, time_line
from zap.pages.listed import MOST_SIMILAR, driver_path, read_listed
from zap.pages.one_prediction import shares_of
from zap.pages.page import answer_reading, see_other
from zap.pages.query import Query, address
from zap.public import PAGE
from zap.scopes import READ, needs
from zap.sentences import say

_TEMPLATE = "driver.html"
_BELOW = b"/pages/drivers/"
# Answers on the time line, and in the table.
_ANSWERS, _LISTED = 200, 8
# How long zap looks for the answers to a driver: the id of all guests may have very many.
_SECONDS = 0.05


@get("/pages/drivers/{user_id:path}", opt=PAGE | needs(READ))
async def driver(request: Request[Any, Any, Any], user_id: FromPath[str]) -> Response[Any]:
    """Show a driver. The id in the path may have any characters, encoded. A slash need not be encoded."""
    # Litestar's path has each slash only once, and a slash that was encoded is still encoded there.
    sent = request.scope.get("raw_path", b"").partition(b"?")[0].partition(_BELOW)[2].removesuffix(b"/")
    return await _page(request, unquote(sent.decode("ascii", "replace")) if sent else user_id.removeprefix("/"))


@get("/pages/drivers", opt=PAGE | needs(READ))
async def driver_by_id(request: Request[Any, Any, Any]) -> Response[Any]:
    """Go to the page of a driver. An id of dots cannot be a path of its own, so its page is here.

    Raises:
        NotFound: no driver is named.
    """
    user_id = Query(request).text(USER_ID)
    if user_id is None:
        raise NotFound(say("name a driver: /pages/drivers/{{user_id}}"))
    path = driver_path(user_id)
    return await _page(request, user_id) if "?" in path else see_other(request, path)


async def _page(request: Request[Any, Any, Any], user_id: str) -> Response[bytes]:
    if not user_id.strip() or len(user_id) > LONGEST_TEXT or CONTROL.search(user_id):
        raise NotFound(say("no driver can have the id {user_id!r}", user_id=user_id[:50]))
    state = request.app.state
    return await answer_reading(request, _TEMPLATE, _read, state, user_id)


def _read(engine: Engine, state: State, user_id: str) -> Mapping[str, Any]:
    named = driver_named(engine, user_id)
    sessions = sessions_of_driver(engine, named, MOST_POINTS)
    page = list_predictions(engine, Wanted(user_id=named), _ANSWERS, seconds=_SECONDS)
    listed = [read_listed(row, state.settings) for row in page.rows]
    points: list[tuple[Kind, datetime, str]] = [("session", one.start, one.charger_type) for one in sessions]
    kinds: dict[str, Kind] = {"right": "right", "wrong": "wrong"}
    points += [
        (kinds.get(one["what"], "answer"), one["asked_at"], one["predicted_class"])
        for one in listed
        if one["asked_at"] is not None
    ]
    facts, outcomes = driver_facts(engine, {USER_ID: named}), outcomes_of_driver(engine, named)
    is_unknown = not (facts or sessions or listed or outcomes.answers)
    return {
        "user_id": named,
        "is_unknown": is_unknown,
        "similar": [(one, driver_path(one)) for one in drivers_like(engine, named, MOST_SIMILAR)] if is_unknown else [],
        "facts": facts,
        "sessions": sessions,
        "count": count_sessions(engine, named),
        "most_counted": driver_sessions.MOST_COUNTED,
        "shares": shares_of(sessions),
        "outcomes": outcomes,
        "most_outcomes": driver_outcomes.MOST_COUNTED,
        "answers": listed[:_LISTED],
        "answers_on_line": len(listed),
        "line": time_line(points),
        "driver_query": urlencode({USER_ID: named}),
        "all_answers": address("/pages/predictions", {"driver": named}),
        "ask": address("/pages/predictions/new", {USER_ID: named}),
    }
