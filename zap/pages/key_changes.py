"""/pages/keys/.../rotate and revoke: a question that says what will happen, and the change."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from zap.db.api_keys import read_key
from zap.errors import InvalidRequest, KeyRefused
from zap.formats.key_options import Rotation
from zap.pages.fields import errors_by_field, filled
from zap.pages.keys import answer_made
from zap.pages.page import answer, read_form, see_other
from zap.public import PAGE
from zap.scopes import ADMIN, needs
from zap.server.access import key_of
from zap.server.key_changes import KeyChanges


@get("/pages/keys/{key_id:str}/rotate", opt=PAGE | needs(ADMIN))
async def ask_rotate(request: Request[Any, Any, State], key_id: FromPath[str]) -> Response[bytes]:
    """Ask how long the old key lives on.

    Raises:
        NotFound: there is no such key.
    """
    return await _ask(request, "key_rotate.html", key_id)


@post("/pages/keys/{key_id:str}/rotate", status_code=200, opt=PAGE | needs(ADMIN))
async def rotate(request: Request[Any, Any, State], key_id: FromPath[str]) -> Response[Any]:
    """Make a new key for an old one, and show it in this reply only.

    Raises:
        NotFound: there is no such key in use.
    """
    form = await read_form(request)
    state = request.app.state
    try:
        keep = Rotation.read(filled(form, ("keep",))).keep
        made = await state.threads.to_its_end(KeyChanges(state).rotate, key_id, keep)
    except InvalidRequest as wrong:
        return await _ask(request, "key_rotate.html", key_id, form, errors=errors_by_field(wrong), status=422)
    except KeyRefused as refused:
        return await _ask(request, "key_rotate.html", key_id, form, refused=refused.message, status=409)
    old = await state.page_threads.run(read_key, state.engine, key_id)
    return await answer_made(request, made, old)


@get("/pages/keys/{key_id:str}/revoke", opt=PAGE | needs(ADMIN))
async def ask_revoke(request: Request[Any, Any, State], key_id: FromPath[str]) -> Response[bytes]:
    """Ask whether to end a key.

    Raises:
        NotFound: there is no such key.
    """
    return await _ask(request, "key_revoke.html", key_id)


@post("/pages/keys/{key_id:str}/revoke", status_code=200, opt=PAGE | needs(ADMIN))
async def revoke(request: Request[Any, Any, State], key_id: FromPath[str]) -> Response[Any]:
    """End a key.

    Raises:
        NotFound: there is no such key in use.
    """
    form = await read_form(request)
    state = request.app.state
    try:
        await state.threads.to_its_end(KeyChanges(state).revoke, key_id)
    except KeyRefused as refused:
        return await _ask(request, "key_revoke.html", key_id, form, refused=refused.message, status=409)
    return see_other(request, "/pages/keys")


async def _ask(  # noqa: PLR0913 - what a question shows
    request: Request[Any, Any, State],
    template: str,
    key_id: str,
    form: Mapping[str, str] | None = None,
    *,
    errors: Mapping[str, list[str]] | None = None,
    refused: str | None = None,
    status: int = 200,
) -> Response[bytes]:
    engine, own = request.app.state.engine, key_of(request.scope)
    shown = {
        "form": form or {},
        "errors": errors or {},
        "refused": refused,
        "is_own": own is not None and own.key_id == key_id,
    }
    return await answer(request, template, lambda: {**shown, "one": read_key(engine, key_id)}, status=status)
