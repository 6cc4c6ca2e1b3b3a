"""GET /pages/predictions/{prediction_id}: one answer in full, with its request, its reasons and what happened then."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath

from zap.db.history.driver_sessions import DriverSession, sessions_of_driver
from zap.db.history.drivers import driver_named
from zap.db.log.stored_predictions import logged_json
from zap.errors import NotFound, ZapError
from zap.flows.explanations import InFull
from zap.flows.stored_prediction import read_with_outcome
from zap.formats.logged_request import read_logged
from zap.formats.request import START, USER_ID
from zap.formats.values import LARGEST_ID
from zap.ml.features import FEATURES
from zap.pages.drawings import MOST_POINTS, time_line, waterfall
from zap.pages.listed import driver_path, what_happened
from zap.pages.page import answer
from zap.pages.query import address
from zap.public import AS_JSON, PAGE
from zap.scopes import READ, needs
from zap.sentences import say

# A row of another program may hold a very long text.
_LONGEST_JSON = 20_000
_LONGEST_VALUE = 200
_MOST_DIGITS = 19


class Shown(NamedTuple):
    """A field of a request.

    Attributes:
        name: the field.
        sent: what the client sent, as a text; None if the client did not send it.
        used: what the model read; None where missing.
        origin: where `used` is from, a key of `words.ORIGIN_WORDS`.
        unit: the unit of a number.
    """

    name: str
    sent: str | None
    used: Any
    origin: str
    unit: str


@get("/pages/predictions/{number:str}", opt=PAGE | needs(READ))
async def one_prediction(request: Request[Any, Any, Any], number: FromPath[str]) -> Response[Any]:
    """Show a prediction. Its explanation is computed by the thread of the explanations, as for the JSON route.

    Raises:
        NotFound: there is no such prediction.
    """
    prediction_id = int(number) if number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS else -1
    if not 0 <= prediction_id <= LARGEST_ID:
        raise NotFound(say("there is no prediction {prediction_id}", prediction_id=number[:50]))
    state = request.app.state
    row, outcome = await state.page_threads.run(state.reads.read, read_with_outcome, prediction_id)
    full, unexplained = None, None
    if row["source"] == "inference":
        try:
            full = await state.explanations.in_full(prediction_id)
        except ZapError as error:
            # An older version may be gone or damaged. The rest of the page can be shown.
            unexplained = error.message
    return await answer(request, "one_prediction.html", lambda: _shown(state, row, outcome, full, unexplained))


def _shown(
    state: State,
    row: Mapping[str, Any],
    outcome: dict[str, Any] | None,
    full: InFull | None,
    unexplained: str | None,
) -> Mapping[str, Any]:
    settings = state.settings
    user_id, asked_at = _asked(state, row, outcome)
    past = [] if user_id is None else sessions_of_driver(state.engine, user_id, MOST_POINTS, asked_at)
    happened = {**(outcome or {"status": None, "actual_class": row["actual_class"], "asked_at": asked_at})}
    what = (
        "training"
        if row["source"] == "train"
        else what_happened(
            {**happened, "outcome": happened["status"], "predicted_class": row["predicted_class"]},
            settings.wall_now(),
            settings.horizon,
        )
    )
    return {
        "row": row,
        "document": address(f"/predictions/{row['prediction_id']}", AS_JSON),
        "user_id": user_id,
        "driver_path": None if user_id is None else driver_path(user_id),
        "asked_at": asked_at,
        "what": what,
        "outcome": outcome,
        "chances": _chances(row, full),
        "full": full,
        "unexplained": unexplained,
        "fall": None if full is None else waterfall(full.told),
        "fields": _fields(row, full),
        "json": _indented(row["input_data_json"]),
        "past": past,
        "is_cut": len(past) == MOST_POINTS,
        "line": time_line([("session", one.start, one.charger_type) for one in past], asked_at) if past else None,
        "shares": shares_of(past),
        "horizon": settings.horizon.total_seconds(),
    }


def shares_of(past: list[DriverSession]) -> list[tuple[str, int, float]]:
    """Return for each charger type of some sessions its name, its number of sessions and its share."""
    counts: dict[str, int] = {}
    for one in past:
        counts[one.charger_type] = counts.get(one.charger_type, 0) + 1
    return [(name, n, n / len(past)) for name, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def _asked(state: State, row: Mapping[str, Any], outcome: dict[str, Any] | None) -> tuple[str | None, datetime | None]:
    """Return the driver and the moment that were asked about: as the follower read them, or as the request has them."""
    if outcome is not None:
        return outcome["user_id"], outcome["asked_at"]
    if row["input_data_json"] is None or row["request_timestamp"] is None:
        return None, None
    wall_time = state.settings.wall_time
    logged = read_logged(row["input_data_json"], wall_time(row["request_timestamp"]), wall_time)
    user_id = None if logged.user_id is None else driver_named(state.engine, logged.user_id)
    return user_id, logged.asked_at


def _chances(row: Mapping[str, Any], full: InFull | None) -> list[tuple[str, float, float | None]]:
    """Return for each type its probability and its usual share, the most probable first."""
    usual = {} if full is None else full.mix
    chances: Mapping[str, float] = row["probabilities"] or {}
    return [(name, one, usual.get(name)) for name, one in sorted(chances.items(), key=lambda pair: -pair[1])]


def _fields(row: Mapping[str, Any], full: InFull | None) -> list[Shown]:
    """Return the fields of a request with what the model read; nothing if the request is no object."""
    request = logged_json(row["input_data_json"])
    if not isinstance(request, dict):
        return []
    used = {} if full is None else full.row
    fields = [Shown(USER_ID, _text(request, USER_ID), None, "sent", "")] if USER_ID in request else []
    for feature in FEATURES:
        name, sent = feature.name, _text(request, feature.name)
        if name == START:
            fields.append(Shown(name, sent, None, "default" if request.get(START) is None else "sent", ""))
            continue
        value = used.get(name)
        origin = "sent" if name in request else "history"
        if value is None:
            origin = "missing" if request.get(name) is None else "ignored"
        fields.append(Shown(name, sent, value, origin, feature.unit))
    return fields


def _text(request: Mapping[str, Any], name: str) -> str | None:
    if name not in request:
        return None
    value = request[name]
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode())[:_LONGEST_VALUE]


def _indented(text: Any) -> str | None:
    """Return the JSON of a request with line breaks; text that is no JSON is unchanged."""
    if not isinstance(text, str):
        # SQLite stores other values too.
        return None if text is None else repr(text)[:_LONGEST_JSON]
    if len(text) > _LONGEST_JSON:
        return f"{text[:_LONGEST_JSON]} …"
    try:
        return msgspec.json.format(text.encode(), indent=2).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
