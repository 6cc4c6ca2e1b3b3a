"""Errors as pages: what is wrong, and what to do."""

import asyncio
from typing import Any, cast
from urllib.parse import quote

from litestar import MediaType, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from zap.errors import Unauthorized
from zap.pages.login import LONGEST_NEXT
from zap.pages.page import PAGE_HEADERS, see_other
from zap.pages.reader import Reader, read_reader
from zap.pages.templates import rendered

_SAFE = frozenset({"GET", "HEAD"})


class _ProblemPage(Response[None]):
    """The page of a problem. It is rendered in a thread after the exception handler has returned."""

    def __init__(self, reader: Reader, problem: Response[dict[str, Any]]) -> None:
        super().__init__(None, status_code=problem.status_code)
        self._reader, self._problem = reader, problem

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        reader, problem = self._reader, self._problem

        async def send_page(scope: Scope, receive: Receive, send: Send) -> None:
            body = await asyncio.to_thread(rendered, reader, "problem.html", {"problem": problem.content})
            page = ASGIResponse(
                body=body,
                status_code=problem.status_code,
                media_type=MediaType.HTML,
                headers={**problem.headers, **PAGE_HEADERS},
                cookies=reader.cookies(),
            )
            await page(scope, receive, send)

        return send_page


def page_problems(problems: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """Return the exception handlers of pages.

    Args:
        problems: the handlers of the JSON routes, which make the problem details of an error and log it.
    """
    return {kind: _shown(cast("Any", handler)) for kind, handler in problems.items()}


def _shown(handler: Any) -> Any:
    def show(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        reader = read_reader(request)
        if isinstance(error, Unauthorized) and request.method in _SAFE:
            after = reader.address if len(reader.address) <= LONGEST_NEXT else "/"
            return see_other(request, f"/pages/login?next={quote(after, safe='')}")
        return _ProblemPage(reader, handler(request, error))

    return show
