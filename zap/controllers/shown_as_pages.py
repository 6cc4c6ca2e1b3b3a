"""JSON routes that a browser gets as a page: the same address works in a program and for a person."""

import re
from collections.abc import Awaitable, Iterable, Mapping
from typing import NamedTuple

from litestar.routes import BaseRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from zap.browsers import wants_page
from zap.public import public_path


class ShownAs(NamedTuple):
    """The page of a JSON route, and the parameters that mean the same on both, or only how much is shown."""

    page: str
    parameters: frozenset[str] = frozenset()


_LIST = frozenset({"before", "limit"})
# The page of each JSON route. A route whose page this application does not have stays JSON for everybody. {} is a
# number, which is at the end of both paths.
PAGES = {
    "/quality": ShownAs("/pages/quality", frozenset({"version", "from", "to", "by"})),
    "/quality/data": ShownAs("/pages/data/fields", frozenset({"from", "to"})),
    "/models": ShownAs("/pages/models", _LIST),
    "/models/{}": ShownAs("/pages/models/{}"),
    "/training-runs": ShownAs("/pages/trainings", _LIST),
    "/training-runs/{}": ShownAs("/pages/trainings/{}"),
    "/predictions": ShownAs("/pages/predictions", _LIST | {"version"}),
    "/audit": ShownAs("/pages/audit", _LIST | {"who", "action", "subject"}),
    "/predictions/{}": ShownAs("/pages/predictions/{}"),
}
_PARAMETER = re.compile(r"\{[^}]*\}")


def shown_as_pages(app: ASGIApp, routes: Iterable[BaseRoute]) -> ASGIApp:
    """Return the app wrapped so that browsers which ask for some JSON routes are sent to the pages of these routes.

    A browser asks for HTML first, and names XHTML. All other clients are programs, and get JSON. A browser gets JSON
    too if the address has a parameter that the page does not have, because the page would show something else. So the
    links of pages to JSON have AS_JSON in their addresses.

    Args:
        app: the application.
        routes: its routes.
    """
    paths = {_PARAMETER.sub("{}", route.path_format) for route in routes}
    pages = {path: shown for path, shown in PAGES.items() if {path, shown.page} <= paths}

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Requests that want no page, among them POST /predict, pay for this comparison only.
        if scope.get("method") == "GET" and (page := _page(scope, pages)) is not None:  # type: ignore[arg-type]
            return _send_to(page, scope, send)  # type: ignore[arg-type] # HTTP, because it has a method
        return app(scope, receive, send)

    return ask if pages else app


def _page(scope: HTTPScope, pages: Mapping[str, ShownAs]) -> str | None:
    """Return the path of the page that a request wants; None if it wants no page."""
    path = scope["path"].rstrip("/")
    before, _, last = path.rpartition("/")
    shown = pages.get(path) or (pages.get(f"{before}/{{}}") if last.isdecimal() and last.isascii() else None)
    if shown is None or not wants_page(scope):
        return None
    sent = scope["query_string"].decode("latin-1").split("&")
    names = {one.partition("=")[0] for one in sent if one}
    return shown.page.format(last) if names <= shown.parameters else None


async def _send_to(page: str, scope: HTTPScope, send: Send) -> None:
    query = scope["query_string"]
    location = public_path(scope, page).encode("latin-1") + (b"?" + query if query else b"")
    headers = [(b"location", location), (b"vary", b"Accept"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
