"""/pages/login and /pages/logout: a browser sends a key once, and has a cookie for half a day."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import QueryParameter

from zap.pages.page import answer, own_path, read_fields, read_form, see_other
from zap.pages.reader import read_reader
from zap.public import PAGE, PUBLIC
from zap.server.access import login_key_of
from zap.server.logins import COOKIE, SECONDS, Logins, client_network

_OPEN = {**PAGE, **PUBLIC}
LONGEST_NEXT = 2000
Next = Annotated[str, QueryParameter(name="next", max_length=LONGEST_NEXT)]


@get("/pages/login", include_in_schema=False, opt=_OPEN)
async def login_page(request: Request[Any, Any, Any], after: Next = "/") -> Response[Any]:
    """Ask for a key, unless this browser has logged in or no key is needed."""
    logins: Logins = request.app.state.logins
    if not logins.is_needed or read_reader(request).has_login:
        return see_other(request, after)
    return await answer(request, "login.html", lambda: {"after": own_path(after), "is_wrong": False, "wait": 0})


@post("/pages/login", status_code=200, include_in_schema=False, opt=_OPEN)
async def log_in(request: Request[Any, Any, Any]) -> Response[Any]:
    """Check the key, and begin a login. After too many wrong keys of a client, no key of the client is checked."""
    logins: Logins = request.app.state.logins
    if read_reader(request).has_login:
        # The form is older than the login, which began in another tab. Nothing changes, so it needs no token.
        return see_other(request, (await read_fields(request)).get("next", "/"))
    form = await read_form(request)
    after = own_path(form.get("next", "/"))
    state, client = request.app.state, client_network(request.scope.get("client"))
    tried = await state.page_threads.run(logins.try_key, state.engine, client, form.get("key", "").strip())
    if tried.key is None:
        shown = {"after": after, "is_wrong": not tried.wait, "wait": tried.wait}
        headers = {"Retry-After": str(tried.wait)} if tried.wait else {}
        return await answer(request, "login.html", lambda: shown, status=429 if tried.wait else 403, headers=headers)
    login = await state.page_threads.run(logins.begin, state.engine, tried.key)
    return see_other(request, after, [read_reader(request).cookie(COOKIE, login, SECONDS)])


@post("/pages/logout", status_code=200, include_in_schema=False, opt=_OPEN)
async def log_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """End the login of this browser: in the browser, and for all server processes if somebody has copied its cookie."""
    await read_form(request)
    reader, state = read_reader(request), request.app.state
    if (key := login_key_of(request.scope)) is not None:
        await state.page_threads.run(state.logins.end, state.engine, request.cookies[COOKIE], key)
    return see_other(request, "/pages/login", [reader.cookie(COOKIE, "", 0)])
