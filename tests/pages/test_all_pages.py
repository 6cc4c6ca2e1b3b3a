"""Every page in a real browser: what no page may do, for persons with different habits.

A page that is added has to be added to the addresses here.
"""

from pathlib import Path

import pytest
from navigation import NAVIGATION, ROUTES, is_page
from readable import covered_texts, faint_texts, unnamed_controls
from watched_page import PEOPLE, disturbances, wait_until_drawn, window

from zap.db.engine import process_lock
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.training_runs import cancel_run, claim_run

DRIVER = "sample-1-00003"
# The addresses on a database in use (see `used.py`): of each page, and of each state of it that looks different.
ADDRESSES = [
    *("/", "/pages/alarms", "/pages/audit", "/pages/keys", "/pages/quality", "/pages/quality?by=week"),
    *("/pages/data", "/pages/data?feature=temperature_c", "/pages/data/fields", "/pages/data/history"),
    *("/pages/data/fields?subject=sessions", "/pages/data/fields?field=temperature_c"),
    *("/pages/models", "/pages/models/1", "/pages/models/2", "/pages/models/3", "/pages/models/compare"),
    *("/pages/models/compare?first=1&second=2", "/pages/models/4/promote", "/pages/models/rollback"),
    *("/pages/models/4/trial", "/pages/models/3/trial", "/pages/models/3/trial/end"),
    *("/pages/trainings", "/pages/trainings/1", "/pages/trainings/1/cancel"),
    *("/pages/predictions", "/pages/predictions?outcome=wrong&kind=live"),
    *("/pages/predictions/new", f"/pages/predictions/new?user_id={DRIVER}", "/pages/predictions/{answer}"),
    *(f"/pages/drivers?user_id={DRIVER}", f"/pages/drivers/{DRIVER}", f"/pages/erase-driver?user_id={DRIVER}"),
    # A part of an id, for which the pages offer drivers.
    *(f"/pages/predictions?driver={DRIVER[1:]}", f"/pages/drivers/{DRIVER[1:]}"),
]
# The addresses that there are without data.
EMPTY = [
    *(
        "/",
        "/pages/alarms",
        "/pages/audit",
        "/pages/keys",
        "/pages/quality",
        "/pages/data",
        "/pages/data/fields",
        "/pages/data/history",
        "/pages/models",
    ),
    *("/pages/models/compare", "/pages/trainings", "/pages/predictions", "/pages/predictions/new"),
    "/pages/drivers/nobody",
]
RUNNING = ["/", "/pages/trainings", "/pages/trainings/{run}", "/pages/trainings/{run}/cancel"]
# Forms, and pages of login, which tests/pages/test_every_button.py opens, and addresses that are no pages.
ELSEWHERE = {"/pages/login", "/pages/logout", "/pages/choices", "/pages/first-training"}
ELSEWHERE |= {"/pages/alarms/{written:str}/acknowledge", "/pages/export-driver"}
# With a key, every page of this server would need one.
ELSEWHERE |= {"/pages/keys/{key_id:str}/rotate", "/pages/keys/{key_id:str}/revoke"}
# axe-core, which finds what people with a screen reader or a keyboard cannot use. It takes longer than all other checks
# together, so it looks once at each page, where boxes scroll. Faint texts are found without it.
_AXE = Path(__file__).with_name("vendor") / "axe.min.js"
_HINDRANCES = """async () => (
  await axe.run({ resultTypes: ["violations"], rules: { "color-contrast": { enabled: false } } })
).violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 200)}`)"""


@pytest.fixture(scope="module", params=list(PEOPLE))
def person(request, browser):
    """Open one window for all pages, as a person with these habits."""
    with window(browser, **PEOPLE[request.param]) as page:
        yield page


@pytest.fixture(scope="module")
def large(browser):
    """Open one window on a large screen."""
    with window(browser, viewport={"width": 2560, "height": 1440}, locale="uk-UA") as page:
        yield page


def faults(page, url, *, has_axe=False):
    """Return what is wrong with the page that is open."""
    found = disturbances(page, url)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append("scrolls sideways")
    if page.locator("h1").count() != 1:
        found.append("has no heading")
    found += covered_texts(page) + faint_texts(page) + unnamed_controls(page)
    if has_axe:
        # Through the debugger, because the policy of the pages lets no other script in.
        page.evaluate(_AXE.read_text(encoding="utf-8"))
        found += page.evaluate(_HINDRANCES)
    return [f"{page.url.removeprefix(url)}: {one}" for one in found]


def faults_on_paper(page, url):
    """Return what is wrong with the print of the page that is open."""
    page.emulate_media(media="print")
    found = faint_texts(page, "main")
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append("cut off at the side")
    if page.locator("nav").first.is_visible():
        found.append("has the navigation")
    page.emulate_media(media="screen")
    return [f"{page.url.removeprefix(url)} on paper: {one}" for one in found]


def opened(page, url, address, *, has_axe=False):
    """Open a page, and return what is wrong with it."""
    reply = page.goto(url + address)
    if reply.status != 200:
        return [f"{address}: {reply.status}"]
    wait_until_drawn(page)
    return faults(page, url, has_axe=has_axe)


def route_of(address):
    return is_page(address.partition("?")[0].format(answer=1, run=1))


# The first address of each page.
_FIRST = {route_of(address): address for address in reversed(ADDRESSES)}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_has_no_fault(used_server, person, address):
    url = used_server.url
    is_narrow = person.viewport_size["width"] == 390
    has_axe = is_narrow and address in _FIRST.values()
    found = opened(person, url, address.format(answer=used_server.answer), has_axe=has_axe)
    if is_narrow:
        found += faults_on_paper(person, url)

    assert found == []


# Without data a page has few words, so what overflows or hides, does so in a narrow window.
@pytest.mark.parametrize(
    "person",
    [pytest.param(name, marks=pytest.mark.long) if name == "light" else name for name in PEOPLE],
    indirect=True,
)
@pytest.mark.parametrize("address", EMPTY)
def test_a_page_without_data_has_no_fault(empty_server, person, address):
    assert opened(person, empty_server.url, address, has_axe=True) == []


@pytest.mark.parametrize("address", _FIRST.values())
def test_a_page_has_no_fault_on_a_large_screen(used_server, large, address):
    assert opened(large, used_server.url, address.format(answer=used_server.answer)) == []


def test_the_pages_have_no_fault_while_a_training_runs(used_server, person):
    # A run whose process does not hold this lock counts as dead.
    with process_lock(used_server.engine, PROCESS_LOCK, timeout=5):
        run = claim_run(used_server.engine, "train", {"note": "slow"})
        found = [fault for address in RUNNING for fault in opened(person, used_server.url, address.format(run=run))]
        cancel_run(used_server.engine, run)
    assert found == []


def test_an_error_is_a_page_without_faults(used_server, large):
    assert large.goto(f"{used_server.url}/pages/nothing").status == 404
    # The browser says so itself.
    large.problems.clear()
    assert faults(large, used_server.url, has_axe=True) == []


def test_every_page_is_opened():
    pages = {route for route in ROUTES if not route.startswith("/pages/assets/")}
    assert pages - ELSEWHERE - set(_FIRST) == set()
    assert set(NAVIGATION) <= {*ADDRESSES}
    assert len(NAVIGATION) >= 6


def test_faults_are_found(empty_server, large):
    """Show that faults are found, so that the other tests can fail."""
    large.goto(empty_server.url)
    large.evaluate(
        """() => {
          const add = (html, color) => {
            document.querySelector("main").insertAdjacentHTML("afterbegin", html);
            document.querySelector("main").firstChild.style.color = color;
          };
          add("<p>faint</p>", "#eee");
          document.querySelector("main").firstChild.style.height = "300px";
          add('<img src="data:,">');
          add("<button></button>");
          console.error("an error");
        }"""
    )
    large.asked.append("https://example.org/font.woff2")

    found = "\n".join(faults(large, empty_server.url, has_axe=True))

    for one in ("an error", "asks for https://example.org", "moves while", "image-alt", "button-name", "P.: faint"):
        assert one in found
