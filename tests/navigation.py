"""The pages that a person finds: the pages of the navigation, and the pages to which they link."""

import re
from pathlib import Path

import zap.pages
from zap.pages.site import page_router

LAYOUT = Path(zap.pages.__file__).with_name("layout.html").read_text(encoding="utf-8")
NAVIGATION = re.findall(r'\("\w+", "(/[^"]*)", _\(', LAYOUT)
ROUTES = {route.path for route in page_router({}).routes} - {"/pages/{rest:path}"}
# The pages of the navigation that are made.
PAGES = [address for address in NAVIGATION if address in ROUTES]


def is_page(path):
    """Return the route of the page with this path; None if no page has it."""
    if path in ROUTES:
        return path
    return next((route for route in ROUTES if re.fullmatch(re.sub(r"\{\w+:\w+\}", "[^/]+", route), path)), None)


def pages_below(html):
    """Return the paths of the pages that the content of a page links to, one of each kind."""
    content = html.partition("<main")[2].partition("</main>")[0]
    paths = [path for path in re.findall(r'href="(/pages/[^"?#]+)', content) if path not in NAVIGATION]
    kinds = {_kind(path): path for path in reversed(paths)}
    return [path for path in kinds.values() if is_page(path)]


def _kind(path):
    """Return the kind of a page. Numbers, and the names of drivers, make no other kind."""
    return re.sub(r"[0-9]+|(?<=/drivers/)[^/]+", "", path)


def reachable(html_of):
    """Return the paths of the navigation, and one path of each kind of pages that links lead to from there.

    Args:
        html_of: returns the page at a path.
    """
    found, kinds = [*PAGES], {*PAGES}
    # Pages that are found are searched too.
    for path in found:
        for below in pages_below(html_of(path)):
            if _kind(below) not in kinds:
                kinds.add(_kind(below))
                found.append(below)
    return found
