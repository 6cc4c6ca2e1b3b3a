"""/pages/keys: the keys in use and the ones that have ended, and the form that makes a key and shows it once."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State

from zap.db.api_keys import MOST_KEYS, MadeKey, list_keys
from zap.errors import InvalidRequest, KeyRefused
from zap.formats.key_options import KeyOptions
from zap.pages.fields import errors_by_field, filled, numbers
from zap.pages.page import answer, read_form
from zap.pages.reader import read_reader
from zap.public import PAGE
from zap.scopes import ADMIN, SCOPES, needs
from zap.server.key_changes import KeyChanges

_TEXTS, _NUMBERS = ("name", "expires"), ("requests_per_second", "batch_rows_per_day")
# The field of a box is this prefix and a scope.
_BOX = "scopes."
# The page shows ended keys that are among this number of the newest keys.
_NEWEST = 200
_ENDED = frozenset({"expired", "revoked"})


@get("/pages/keys", opt=PAGE | needs(ADMIN))
async def keys(request: Request[Any, Any, State]) -> Response[bytes]:
    """Show the keys, and the form of a new one."""
    state = request.app.state
    return await answer(request, "keys.html", lambda: {**_read(state), "form": {}, "errors": {}, "refused": None})


@post("/pages/keys", status_code=200, opt=PAGE | needs(ADMIN))
async def create(request: Request[Any, Any, State]) -> Response[Any]:
    """Make a key, and show it in this reply only. If a field is wrong, the form is shown again."""
    form = await read_form(request)
    state = request.app.state
    try:
        options = KeyOptions.read(options_of(form, read_reader(request).language))
        made = await state.threads.to_its_end(KeyChanges(state).create, options)
    except (InvalidRequest, KeyRefused) as error:
        is_wrong = isinstance(error, InvalidRequest)
        errors = errors_by_field(error) if isinstance(error, InvalidRequest) else {}
        shown = {"form": form, "errors": errors, "refused": None if is_wrong else error.message}
        return await answer(request, "keys.html", lambda: {**_read(state), **shown}, status=422 if is_wrong else 409)
    return await answer_made(request, made)


async def answer_made(
    request: Request[Any, Any, State], made: MadeKey, old: Mapping[str, Any] | None = None
) -> Response[bytes]:
    """Return the page that shows a new key. No address shows it, so that it is in no history and in no log.

    Args:
        request: the request that has made the key.
        made: the key.
        old: the row of the key that it stands for; None if it stands for none.
    """
    return await answer(request, "key_made.html", lambda: {"key": made.key, "one": made.row, "old": old})


def options_of(form: Mapping[str, str], language: str) -> dict[str, Any]:
    """Return the options in a form, as JSON. An empty field is left out."""
    return {
        "name": "",
        **filled(form, _TEXTS),
        **numbers(form, _NUMBERS, language),
        "scopes": [scope for scope in SCOPES if f"{_BOX}{scope}" in form],
    }


def _read(state: State) -> Mapping[str, Any]:
    in_use = list_keys(state.engine, MOST_KEYS)
    newest = list_keys(state.engine, _NEWEST, ended=True)
    return {
        "has_keys": state.api_keys.is_closed,
        "in_use": [one for one in in_use if one["status"] == "active"],
        "replaced": [one for one in in_use if one["status"] != "active"],
        "ended": [one for one in newest if one["status"] in _ENDED],
        "all_scopes": SCOPES,
        "box_name": _BOX,
    }
