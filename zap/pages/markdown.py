"""Markdown files to HTML: escaped, with anchors as GitHub makes them, and links that work as files and served."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

# Marks of other programs, on lines of their own. Everything else that looks like HTML is escaped.
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE)
_NO_ANCHOR = re.compile(r"[^\w\- ]")
# An option of a command with its value. A line must not break inside it.
_OPTION = re.compile(r"(?<!\S)--?[A-Za-z][\w-]*(?:[ =][^\s-]\S{0,11}(?!\S))?")
# Blocks of text that a search finds.
_TEXT_BLOCKS = {"paragraph_open", "tr_open"}


@dataclass(frozen=True)
class Heading:
    """A heading of a page; `anchor` is what follows `#` in its address."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Block:
    """A piece of text that a search finds, below its heading."""

    heading: Heading
    text: str


@dataclass(frozen=True)
class Rendered:
    """A Markdown file as HTML; the first heading is its title."""

    html: str
    headings: Sequence[Heading]
    blocks: Sequence[Block]


def render(text: str, root: str, pages: Collection[str], pictures: Mapping[str, tuple[int, int]]) -> Rendered:
    """Return a Markdown file as HTML.

    Args:
        text: the file.
        root: what stands in front of the address of another page or a picture.
        pages: file names of pages, such as `start.md`, that links may lead to.
        pictures: the width and the height of each picture beside the file, by file name. A browser that knows them
            leaves the place free, so the text does not move when a picture comes.

    Raises:
        ValueError: a link leads to no page, or the file does not begin with a heading.
    """
    parser = _parser()
    tokens = parser.parse(_COMMENT.sub("", text))
    headings = _number_headings(tokens)
    for token in tokens:
        for child in token.children or []:
            if child.type == "link_open":
                child.attrs["href"] = _address(str(child.attrs["href"]), root, pages)
            elif child.type == "image":
                source = str(child.attrs["src"])
                child.attrs["src"] = _picture(source, root, pictures)
                child.attrs["width"], child.attrs["height"] = pictures[source]
    return Rendered(parser.renderer.render(tokens, parser.options, {}), headings, list(_blocks(tokens, headings)))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("heading_close", _close_heading)
    parser.add_render_rule("code_inline", _code)
    # Wide tables are scrolled, not the page; the keyboard reaches them too. The script of the page shows the rows of a
    # table that is wider than a narrow screen as blocks.
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _close_heading(_: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType) -> str:
    token = tokens[index]
    anchor = token.meta["anchor"]
    return f' <a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a></{token.tag}>\n'


def _open_table(*_: Any) -> str:
    return '<div class="table" tabindex="0"><table>\n'


def _code(_: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType) -> str:
    text = escape(tokens[index].content, quote=False)
    return f"<code>{_OPTION.sub(_unbroken, text)}</code>"


def _unbroken(found: re.Match[str]) -> str:
    return f'<span class="option">{found[0]}</span>'


def _number_headings(tokens: Sequence[Token]) -> list[Heading]:
    """Give each heading its anchor."""
    headings: list[Heading] = []
    used: Counter[str] = Counter()
    for opening, inline, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type != "heading_open":
            continue
        text = _plain(inline)
        slug = anchor_of(text)
        anchor = f"{slug}-{used[slug]}" if used[slug] else slug
        used[slug] += 1
        opening.attrs["id"] = closing.meta["anchor"] = anchor
        headings.append(Heading(int(opening.tag[1]), text, anchor))
    if not headings or tokens[0].type != "heading_open":
        raise ValueError("a page begins with its heading")
    return headings


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return _NO_ANCHOR.sub("", heading.lower()).replace(" ", "-")


def _address(href: str, root: str, pages: Collection[str]) -> str:
    if href.startswith(("https://", "#")):
        return href
    file, mark, anchor = href.partition("#")
    if file not in pages:
        raise ValueError(f"the link {href} leads to no page")
    return f"{root}/manual/{file.removesuffix('.md')}{mark}{anchor}"


def _picture(source: str, root: str, pictures: Collection[str]) -> str:
    if source not in pictures:
        raise ValueError(f"there is no picture {source}")
    return f"{root}/manual/{source}"


def _blocks(tokens: Sequence[Token], headings: Sequence[Heading]) -> Iterator[Block]:
    """Yield the text of each heading, paragraph, list item, table row and example."""
    coming = iter(headings)
    heading = headings[0]
    words: list[str] = []
    for token in tokens:
        if token.type == "heading_open":
            heading = next(coming)
            yield Block(heading, heading.text)
        elif token.type == "fence":
            yield Block(heading, token.content.strip())
        elif token.type in _TEXT_BLOCKS:
            words = []
        elif token.type == "inline":
            words.append(_plain(token))
        elif token.type in {"paragraph_close", "tr_close"}:
            yield Block(heading, " ".join(word for word in words if word))


def _plain(inline: Token) -> str:
    """Return the text of a paragraph, a cell or a heading without its marks."""
    return "".join(
        " " if child.type in {"softbreak", "hardbreak"} else child.content for child in inline.children or []
    )
