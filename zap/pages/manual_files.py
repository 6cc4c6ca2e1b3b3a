"""The files of the manual as they are sent: its pages in HTML, its pictures, and the entries of its search."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template

import msgspec
from litestar import MediaType

from zap import __version__
from zap.pages.manual_pages import LANGUAGES, PAGES, ROOT, navigation, neighbours
from zap.pages.markdown import Rendered, render

SEARCH = "search.json"
_FOLDER = Path(__file__).resolve().parent.parent / "manual"
# The media types of pictures.
_PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
_VIEW_BOX = re.compile(rb'viewBox="0 0 (\d+) (\d+)"')
_TEMPLATE = Path(__file__).with_name("manual.html")


class ManualFile(msgspec.Struct, frozen=True):
    """A file of the manual as it is sent."""

    body: bytes
    media_type: str


@cache
def rendered_files() -> Mapping[str, ManualFile]:
    """Return all files of the manual, with `ROOT` in front of each address of zap."""
    pictures = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _PICTURES}
    sizes = {name: _size(body) for name, body in pictures.items()}
    pages = {
        name: render((_FOLDER / f"{name}.md").read_text(encoding="utf-8"), ROOT, {f"{one}.md" for one in PAGES}, sizes)
        for name in PAGES
    }
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    files = {name: ManualFile(_page(template, name, pages).encode(), MediaType.HTML) for name in PAGES}
    files[SEARCH] = ManualFile(msgspec.json.encode(_index(pages)), MediaType.JSON)
    return files | {name: ManualFile(body, _PICTURES[Path(name).suffix]) for name, body in pictures.items()}


def _size(picture: bytes) -> tuple[int, int]:
    """Return the width and the height of a PNG or an SVG, in pixels."""
    if picture.startswith(b"\x89PNG"):
        return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
    box = _VIEW_BOX.search(picture)
    if box is None:
        raise ValueError("a picture in SVG has no viewBox from 0 0 on")
    return int(box[1]), int(box[2])


def _page(template: Template, name: str, pages: Mapping[str, Rendered]) -> str:
    return template.substitute(
        language=LANGUAGES.get(name, "en"),
        title=escape(pages[name].headings[0].text),
        navigation=navigation(name, pages),
        content=pages[name].html,
        neighbours=neighbours(name, pages),
        version=__version__,
        root=ROOT,
    )


def _index(pages: Mapping[str, Rendered]) -> Sequence[Sequence[str]]:
    """Return the entries of the search, one for each block: page, title of the page, anchor, heading and text."""
    return [
        (name, page.headings[0].text, block.heading.anchor, block.heading.text, block.text)
        for name, page in pages.items()
        for block in page.blocks
    ]
