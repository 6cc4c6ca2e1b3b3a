"""Every page of the navigation, and the pages that it links to, in a real browser: what no page may do.

A page that is added to the navigation is looked at as soon as it has a route.
"""

import shutil
from pathlib import Path

import pytest
from filled import fill
from navigation import NAVIGATION, PAGES, pages_below
from servers import Server

from zap.db.engine import create_engine
from zap.settings import Settings

PEOPLE = {
    "light": {"color_scheme": "light", "locale": "en-GB", "viewport": {"width": 1280, "height": 800}},
    "dark, 390 px, Ukrainian": {
        "color_scheme": "dark",
        "locale": "uk-UA",
        "viewport": {"width": 390, "height": 844},
    },
}
# axe-core, which finds what people with a screen reader, a keyboard or weak eyes cannot use.
_AXE = Path(__file__).with_name("vendor") / "axe.min.js"
_HINDRANCES = """async () => (await axe.run({ resultTypes: ["violations"] })).violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 200)}`)"""
_SHIFTS = (
    "window.shifts = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
    " if (!one.hadRecentInput) window.shifts += one.value; }).observe({ type: 'layout-shift', buffered: true });"
)


def served(settings):
    return Server(settings.model_copy(update={"follow": False})).wait()


@pytest.fixture(scope="module")
def servers(_trained_sqlite, _sqlite_at_head, tmp_path_factory):
    """Yield two servers: on a database that has been in use, and on an empty one."""
    folder = tmp_path_factory.mktemp("used")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    used = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    engine = create_engine(used.database_url)
    fill(engine)
    engine.dispose()
    folder = tmp_path_factory.mktemp("unused")
    shutil.copy(_sqlite_at_head, folder / "zap.sqlite")
    unused = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    servers = {"in use": served(used), "empty": served(unused)}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture(scope="module", params=list(PEOPLE))
def person(request, browser):
    """Open one window for all pages, as a person with these habits, and note what goes wrong in it."""
    context = browser.new_context(timezone_id="Europe/Kyiv", **PEOPLE[request.param])
    page = context.new_page()
    page.problems, page.asked = [], []
    page.on("console", lambda said: said.type in {"error", "warning"} and page.problems.append(said.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.add_init_script(_SHIFTS)
    yield page
    context.close()


def faults(page, url, servers):
    """Return what is wrong with the page that is open."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found = list(page.problems)
    # The browser may ask for the icon of the page before only now.
    own = (*(server.url for server in servers.values()), "data:", "blob:")
    found += [f"asks for {one}" for one in page.asked if not one.startswith(own)]
    if (shift := page.evaluate("window.shifts")) >= 0.1:
        found.append(f"moves while it loads: {shift:.3f}")
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append("scrolls sideways")
    if page.locator("h1").count() != 1:
        found.append("has no heading")
    # Through the debugger, because the policy of the pages lets no other script in.
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found += page.evaluate(_HINDRANCES)
    return [f"{page.url.removeprefix(url)}: {one}" for one in found]


@pytest.mark.parametrize("data", ["in use", "empty"])
@pytest.mark.parametrize("address", PAGES)
def test_a_page_has_no_fault(servers, person, data, address):
    url, found = servers[data].url, []
    below = [address]
    for number, path in enumerate(below):
        person.problems.clear()
        person.asked.clear()
        assert person.goto(url + path).status == 200, path
        found += faults(person, url, servers)
        if number == 0:
            below += pages_below(person.content())

    assert found == []


def test_axe_finds_what_is_wrong(servers, person):
    """Show that `faults` can find something, so that the other test can fail."""
    person.goto(servers["empty"].url)
    person.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\"><button></button>')"
    )

    found = "\n".join(faults(person, servers["empty"].url, servers))

    assert "image-alt" in found
    assert "button-name" in found


def test_the_navigation_is_found():
    assert NAVIGATION[0] == "/"
    assert len(NAVIGATION) >= 6
