"""The pages of the manual, and the links between them."""

from collections.abc import Mapping
from html import escape

from zap.pages.markdown import Heading, Rendered

# The pages, in the order in which a newcomer reads them.
PAGES = (
    "start",
    "predicting",
    "explanations",
    "batches",
    "reporting",
    "outcomes",
    "training",
    "tuning",
    "versions",
    "trials",
    "quality",
    "data-quality",
    "pages",
    "files",
    "python",
    "operating",
    "keys",
    "metrics",
    "container",
    "systemd",
    "security",
    "alarms",
    "retention",
    "moving",
    "audit",
    "drivers",
    "reference",
    "performance",
    "developing",
    "uk",
)
# The language of each page that is not in English.
LANGUAGES = {"uk": "uk"}
# This character marks the places for the path prefix of the client. Rendered Markdown never contains it, because the
# Markdown parser replaces NUL.
ROOT = "\0"


def navigation(name: str, pages: Mapping[str, Rendered]) -> str:
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
    language = f' lang="{LANGUAGES[name]}"' if name in LANGUAGES else ""
    return f'<a href="{ROOT}/manual/{name}"{attributes}{language}>{escape(page.headings[0].text)}</a>'


def neighbours(name: str, pages: Mapping[str, Rendered]) -> str:
    """Return links to the page before and the page after."""
    place = PAGES.index(name)
    before, after = PAGES[:place][-1:], PAGES[place + 1 :][:1]
    return " ".join(
        f"<span>{word} {_link(one, pages[one])}</span>"
        for word, names in (("Previous:", before), ("Next:", after))
        for one in names
    )
