"""JSON routes that a browser gets as a page: the same address works in a program and for a person."""

import re
from collections.abc import Awaitable, Iterable, Mapping

from litestar.datastructures.headers import Accept
from litestar.routes import BaseRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from zap.public import public_path

# The page of each JSON route. A route whose page this application does not have stays JSON for everybody. {} is a
# number, which is at the end of both paths.
PAGES = {
    "/quality": "/pages/quality",
    "/quality/data": "/pages/data",
    "/models": "/pages/models",
    "/models/{}": "/pages/models/{}",
    "/training-runs": "/pages/trainings",
    "/training-runs/{}": "/pages/trainings/{}",
    "/predictions": "/pages/predictions",
    "/predictions/{}": "/pages/predictions/{}",
}
_PARAMETER = re.compile(r"\{[^}]*\}")


def shown_as_pages(app: ASGIApp, routes: Iterable[BaseRoute]) -> ASGIApp:
    """Return the app wrapped so that browsers which ask for some JSON routes are sent to the pages of these routes.

    A browser asks for HTML first, and names XHTML. All other clients are programs, and get JSON.

    Args:
        app: the application.
        routes: its routes.
    """
    paths = {_PARAMETER.sub("{}", route.path_format) for route in routes}
    pages = {path: page for path, page in PAGES.items() if {path, page} <= paths}

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Requests that want no page, among them POST /predict, pay for this comparison only.
        if scope.get("method") == "GET" and (page := _page(scope, pages)) is not None:  # type: ignore[arg-type]
            return _send_to(page, scope, send)  # type: ignore[arg-type] # HTTP, because it has a method
        return app(scope, receive, send)

    return ask if pages else app


def _page(scope: HTTPScope, pages: Mapping[str, str]) -> str | None:
    """Return the path of the page that a request wants; None if it wants no page."""
    path = scope["path"].rstrip("/")
    before, _, last = path.rpartition("/")
    page = pages.get(path) or (pages.get(f"{before}/{{}}") if last.isdecimal() and last.isascii() else None)
    return page.format(last) if page and _wants_html(scope) else None


def _wants_html(scope: HTTPScope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    # Libraries of programs, such as Java's HttpURLConnection, may name text/html first too. Only browsers name XHTML.
    # Litestar's own choice takes a while, so most requests of programs do not get to it.
    is_browser = "text/html" in accept and "application/xhtml+xml" in accept
    return is_browser and Accept(accept).best_match(["application/json", "text/html"]) == "text/html"


async def _send_to(page: str, scope: HTTPScope, send: Send) -> None:
    query = scope["query_string"]
    location = public_path(scope, page).encode("latin-1") + (b"?" + query if query else b"")
    headers = [(b"location", location), (b"vary", b"Accept"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
