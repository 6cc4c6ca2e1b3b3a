"""GET /manual and /manual/{name}: the Markdown files of `zap/manual` as pages, with a search over all of them."""

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from zap import __version__
from zap.errors import NotFound
from zap.pages.markdown import Heading, Rendered, render
from zap.public import CONTENT_SECURITY_POLICY, PUBLIC, public_path

# The pages, in the order in which a newcomer reads them.
PAGES = (
    "start",
    "predicting",
    "batches",
    "reporting",
    "training",
    "tuning",
    "versions",
    "files",
    "python",
    "operating",
    "moving",
    "reference",
    "performance",
    "developing",
    "uk",
)
SEARCH = "search.json"
_FOLDER = Path(__file__).resolve().parent.parent / "manual"
_TEMPLATE = Path(__file__).with_suffix(".html")
_LANGUAGES = {"uk": "uk"}
# This character marks the places for the path prefix of the client. Rendered Markdown never contains it, because the
# Markdown parser replaces NUL.
_ROOT = "\0"
# Pages are kept for at most this many path prefixes. Trusted proxies name the prefixes, and usually there is one.
_MOST_PREFIXES = 16


class _File(msgspec.Struct, frozen=True):
    """A file of the manual as it is sent."""

    body: bytes
    media_type: str


# For each path prefix, the files by name.
_made: dict[str, Mapping[str, _File]] = {}


def manual_handlers() -> list[HTTPRouteHandler]:
    """Return the routes of the manual."""
    return [_start, _named]


@get("/manual", include_in_schema=False, opt=PUBLIC)
async def _start(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _answer(request, PAGES[0])


@get("/manual/{name:str}", include_in_schema=False, opt=PUBLIC)
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
        raise NotFound(f"the manual has no page {name[:100]!r}; {prefix}/manual lists its pages")
    return Response(
        files[name].body,
        media_type=files[name].media_type,
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


def _files(prefix: str) -> Mapping[str, _File]:
    return {
        name: _File(file.body.replace(_ROOT.encode(), prefix.encode()), file.media_type)
        for name, file in _rendered().items()
    }


@cache
def _rendered() -> Mapping[str, _File]:
    """Return all files of the manual, with `_ROOT` in front of each address of zap."""
    pictures = {path.name: path.read_bytes() for path in _FOLDER.glob("*.svg")}
    pages = {
        name: render(
            (_FOLDER / f"{name}.md").read_text(encoding="utf-8"), _ROOT, {f"{one}.md" for one in PAGES}, pictures
        )
        for name in PAGES
    }
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    files = {name: _File(_page(template, name, pages).encode(), MediaType.HTML) for name in PAGES}
    files[SEARCH] = _File(msgspec.json.encode(_index(pages)), MediaType.JSON)
    return files | {name: _File(body, "image/svg+xml") for name, body in pictures.items()}


def _page(template: Template, name: str, pages: Mapping[str, Rendered]) -> str:
    return template.substitute(
        language=_LANGUAGES.get(name, "en"),
        title=escape(pages[name].headings[0].text),
        navigation=_navigation(name, pages),
        content=pages[name].html,
        neighbours=_neighbours(name, pages),
        version=__version__,
        root=_ROOT,
    )


def _navigation(name: str, pages: Mapping[str, Rendered]) -> str:
    """Return links to all pages, and to the sections of this one."""
    lines = []
    for one, page in pages.items():
        here, sections = "", ""
        if one == name:
            here = ' aria-current="page"'
            inner = [heading for heading in page.headings if heading.level == 2]
            sections = f"<ul>{''.join(map(_section, inner))}</ul>" if inner else ""
        lines.append(f"<li>{_link(one, page, here)}{sections}</li>")
    return "\n".join(lines)


def _section(heading: Heading) -> str:
    return f'<li><a href="#{heading.anchor}">{escape(heading.text)}</a></li>'


def _link(name: str, page: Rendered, attributes: str = "") -> str:
    language = f' lang="{_LANGUAGES[name]}"' if name in _LANGUAGES else ""
    return f'<a href="{_ROOT}/manual/{name}"{attributes}{language}>{escape(page.headings[0].text)}</a>'


def _neighbours(name: str, pages: Mapping[str, Rendered]) -> str:
    """Return links to the page before and the page after."""
    place = PAGES.index(name)
    before, after = PAGES[:place][-1:], PAGES[place + 1 :][:1]
    return " ".join(
        f"<span>{word} {_link(one, pages[one])}</span>"
        for word, names in (("Previous:", before), ("Next:", after))
        for one in names
    )


def _index(pages: Mapping[str, Rendered]) -> Sequence[Sequence[str]]:
    """Return the entries of the search, one for each block: page, title of the page, anchor, heading and text."""
    return [
        (name, page.headings[0].text, block.heading.anchor, block.heading.text, block.text)
        for name, page in pages.items()
        for block in page.blocks
    ]
