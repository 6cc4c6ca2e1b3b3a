"""/pages/login and /pages/logout: a browser sends the API key once, and has a cookie for half a day."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import QueryParameter

from zap.pages.page import answer, own_path, read_fields, read_form, see_other
from zap.pages.reader import read_reader
from zap.public import PAGE, PUBLIC
from zap.server.logins import COOKIE, SECONDS, Logins

_OPEN = {**PAGE, **PUBLIC}
LONGEST_NEXT = 2000
Next = Annotated[str, QueryParameter(name="next", max_length=LONGEST_NEXT)]


@get("/pages/login", include_in_schema=False, opt=_OPEN)
async def login_page(request: Request[Any, Any, Any], after: Next = "/") -> Response[Any]:
    """Ask for the API key, unless this browser has logged in or no key is needed."""
    logins: Logins = request.app.state.logins
    if not logins.is_needed or read_reader(request).has_login:
        return see_other(request, after)
    return await answer(request, "login.html", lambda: {"after": own_path(after), "is_wrong": False})


@post("/pages/login", status_code=200, include_in_schema=False, opt=_OPEN)
async def log_in(request: Request[Any, Any, Any]) -> Response[Any]:
    """Check the API key, and begin a login."""
    logins: Logins = request.app.state.logins
    if read_reader(request).has_login:
        # The form is older than the login, which began in another tab. Nothing changes, so it needs no token.
        return see_other(request, (await read_fields(request)).get("next", "/"))
    form = await read_form(request)
    after = own_path(form.get("next", "/"))
    if not logins.is_key(form.get("key", "").strip()):
        return await answer(request, "login.html", lambda: {"after": after, "is_wrong": True}, status=403)
    return see_other(request, after, [read_reader(request).cookie(COOKIE, logins.begin(), SECONDS)])


@post("/pages/logout", status_code=200, include_in_schema=False, opt=_OPEN)
async def log_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """End the login of this browser."""
    await read_form(request)
    return see_other(request, "/pages/login", [read_reader(request).cookie(COOKIE, "", 0)])
