"""GET /manual and /manual/{name}: the Markdown files of `zap/manual` as pages, with a search over all of them."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from zap.errors import NotFound
from zap.pages.manual_files import ManualFile, rendered_files
from zap.pages.manual_pages import PAGES, ROOT
from zap.public import CONTENT_SECURITY_POLICY, public_path
from zap.scopes import needs
from zap.sentences import say

# Pages are kept for at most this many path prefixes. Trusted proxies name the prefixes, and usually there is one.
_MOST_PREFIXES = 16
# For each path prefix, the files by name.
_made: dict[str, Mapping[str, ManualFile]] = {}


def manual_handlers() -> list[HTTPRouteHandler]:
    """Return the routes of the manual."""
    return [_start, _named]


@get("/manual", include_in_schema=False, opt=needs())
async def _start(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _answer(request, PAGES[0])


@get("/manual/{name:str}", include_in_schema=False, opt=needs())
async def _named(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    return await _answer(request, name)


async def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """Return a file of the manual.

    Anybody may ask for it, so the event loop only looks it up: it is rendered once, in a thread.

    Raises:
        NotFound: the manual has no such page.
    """
    prefix = public_path(request.scope, "")
    files = _made.get(prefix)
    if files is None:
        files = await request.app.state.threads.run(_files, prefix)
        if len(_made) >= _MOST_PREFIXES:
            _made.clear()
        _made[prefix] = files
    if name not in files:
        raise NotFound(
            say("the manual has no page {name!r}; {prefix}/manual lists its pages", name=name[:100], prefix=prefix)
        )
    return Response(
        files[name].body,
        media_type=files[name].media_type,
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


def _files(prefix: str) -> Mapping[str, ManualFile]:
    # Pictures have no address in them, and every byte of them counts.
    return {
        name: file
        if file.media_type.startswith("image/")
        else ManualFile(file.body.replace(ROOT.encode(), prefix.encode()), file.media_type)
        for name, file in rendered_files().items()
    }
