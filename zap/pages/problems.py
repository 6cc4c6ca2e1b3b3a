"""Errors as pages: what is wrong, and what to do."""

import asyncio
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, quote

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from zap.browsers import wants_page
from zap.errors import Unauthorized, ZapError
from zap.pages.login import LONGEST_NEXT
from zap.pages.page import PAGE_HEADERS, see_other
from zap.pages.reader import SAFE, Reader, read_reader
from zap.pages.templates import rendered
from zap.sentences import phrase

_MOST_FILTERS = 20
# What Litestar and msgspec say, as templates of the catalogue.
LIBRARIES = (
    phrase("Bad Request"),
    phrase("Not Found"),
    phrase("Method Not Allowed"),
    phrase("Request Entity Too Large"),
    phrase("Validation failed for {method:s} {path:s}"),
    phrase("Expected `{wanted:s}`, got `{found:s}`"),
    phrase("Expected `int` >= {least}"),
    phrase("Expected `str` of length <= {most}"),
)
_LEADS_ON = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>zap</title><link rel="icon" href="data:,">'
    '<meta http-equiv="refresh" content="0; url={address}"><p><a href="{address}">zap</a></p></html>'
)


class _ProblemPage(Response[None]):
    """The page of a problem. It is rendered in a thread after the exception handler has returned."""

    def __init__(self, reader: Reader, problem: Response[dict[str, Any]]) -> None:
        super().__init__(None, status_code=problem.status_code)
        self._reader, self._problem = reader, problem

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        reader, problem = self._reader, self._problem

        async def send_page(scope: Scope, receive: Receive, send: Send) -> None:
            shown = {"problem": problem.content, "filters": _filters(reader, problem.content)}
            body = await asyncio.to_thread(rendered, reader, "problem.html", shown)
            page = ASGIResponse(
                body=body,
                status_code=problem.status_code,
                media_type=MediaType.HTML,
                headers={**problem.headers, **PAGE_HEADERS},
                cookies=reader.cookies(),
            )
            await page(scope, receive, send)

        return send_page


def _filters(reader: Reader, problem: Mapping[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Return the filters of a refused search, each as it was typed and with what is wrong with it."""
    wrong: dict[str, list[str]] = {}
    for one in problem.get("errors", ()) if problem["status"] == HTTPStatus.BAD_REQUEST else ():
        wrong.setdefault(one["pointer"].removeprefix("#/"), []).append(one["detail"])
    query = reader.address.partition("?")[2]
    typed = dict(parse_qsl(query, errors="replace", max_num_fields=None)[:_MOST_FILTERS]) if wrong else {}
    return {name: (value, wrong.get(name, [])) for name, value in typed.items()}


def page_problems(problems: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """Return the exception handlers of pages.

    Args:
        problems: the handlers of the JSON routes, which make the problem details of an error and log it.
    """
    return {kind: _shown(cast("Any", handler)) for kind, handler in problems.items()}


def browser_problems(problems: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """Return the exception handlers of the application.

    A browser that asks for an unknown path, or with a method that no route of a path has, gets the problem as a page. A
    browser that asks for anything else and has not logged in is led to the login page, such as for the manual.

    Args:
        problems: the handlers of the JSON routes.
    """
    handler: Any = problems[HTTPException]

    def show(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
        scope: Any = request.scope
        if "route_handler" in scope or not wants_page(scope):
            shown: Response[Any] = handler(request, error)
            return shown
        return _ProblemPage(read_reader(request), handler(request, error))

    zap_error: Any = problems[ZapError]

    def lead_on(request: Request[Any, Any, Any], error: ZapError) -> Response[Any]:
        scope: Any = request.scope
        if isinstance(error, Unauthorized) and request.method in SAFE and wants_page(scope):
            return _to_login(request)
        shown: Response[Any] = zap_error(request, error)
        return shown

    return {**problems, HTTPException: show, ZapError: lead_on}


def _to_login(request: Request[Any, Any, Any]) -> Response[Any]:
    """Return the reply that leads a browser to the login page, and from there to the address that it asked for."""
    reader = read_reader(request)
    after = reader.address if len(reader.address) <= LONGEST_NEXT else "/"
    login = f"/pages/login?next={quote(after, safe='')}"
    return _leading_on(reader.path(login)) if _is_link_elsewhere(request) else see_other(request, login)


def _shown(handler: Any) -> Any:
    def show(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        if isinstance(error, Unauthorized) and request.method in SAFE:
            return _to_login(request)
        return _ProblemPage(read_reader(request), handler(request, error))

    return show


def _is_link_elsewhere(request: Request[Any, Any, Any]) -> bool:
    """Return whether the browser follows a link on another site, such as a chat."""
    headers = request.headers
    return headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") == "navigate"


def _leading_on(address: str) -> Response[bytes]:
    """Return a page that leads on to the login page by itself.

    A browser that follows a link on another site sends no cookie, not even after a redirect. This page is zap's own, so
    the browser sends the cookie of the login with the next request, and the login page leads to the linked page.
    """
    body = _LEADS_ON.format(address=escape(address)).encode()
    return Response(body, media_type=MediaType.HTML, headers=PAGE_HEADERS)
