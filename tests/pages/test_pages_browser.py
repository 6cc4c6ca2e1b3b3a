"""The pages in a real browser: light, dark, narrow, in Ukrainian, without JavaScript, and with nothing to show."""

import csv
import shutil
import time

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr
from readable import covered_texts, faint_texts, unnamed_controls
from servers import Server

from zap.pages.plots import Line, Mark, Plot
from zap.pages.reader import Reader
from zap.pages.templates import environment
from zap.public import PAGE_SECURITY_POLICY
from zap.settings import Settings

KEY = "correct horse battery"
# What a page with a plot looks like.
PLOTTED = """
{% extends "layout.html" %}{% import "pieces.html" as piece with context %}
{% block title %}Trial{% endblock %}
{% block scripts %}{{ piece.plot_script() }}{% endblock %}
{% block content %}{% call piece.card("Log loss", kind="full") %}
{{ piece.plot(plot, "log-loss", "Log loss of each day.") }}{% endcall %}
{% call piece.card("Calibration") %}
{% call piece.drawn(figures.calibration(bins, "confidence", "right"), "calibration", "On the line is right.") %}
{{ piece.table([("confidence", "number")], [[0.5]]) }}{% endcall %}{% endcall %}{% endblock %}
"""


def served(settings, **changes):
    server = Server(settings.model_copy(update={"follow": False, **changes}))
    return server.wait()


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    """Yield one server for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    server = served(Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def empty_server(_sqlite_at_head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    shutil.copy(_sqlite_at_head, folder / "zap.sqlite")
    server = served(Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models"))
    yield server
    server.close()


@pytest.fixture
def look(browser):
    """Return a function that opens a page as a person with these habits, and checks the page when the test ends."""
    contexts, pages = [], []

    def look(url, *, scheme="light", width=1280, height=800, locale="en-GB", script=True):
        context = browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            locale=locale,
            timezone_id="Europe/Kyiv",
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        page.problems, page.asked = [], []
        page.on("console", lambda said: said.type in {"error", "warning"} and page.problems.append(said.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        if script:
            page.add_init_script(
                "window.shifts = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
                " if (!one.hadRecentInput) window.shifts += one.value; })"
                ".observe({ type: 'layout-shift', buffered: true });"
            )
        page.goto(url)
        pages.append((page, url, script))
        return page

    yield look
    for page, url, script in pages:
        origin = "/".join(url.split("/")[:3])
        assert page.problems == []
        assert [one for one in page.asked if not one.startswith((origin, "data:", "blob:"))] == []
        if script:
            assert page.evaluate("window.shifts") < 0.02
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert faint_texts(page, "body") == []
            assert covered_texts(page, "body") == []
            assert unnamed_controls(page, "body") == []
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 2560])
@pytest.mark.parametrize("locale", ["en-GB", "uk-UA"])
def test_the_overview_can_be_read(look, server, scheme, width, locale):
    page = look(f"{server.url}/", scheme=scheme, width=width, locale=locale)

    expect(page.get_by_role("heading", level=1)).to_have_text("Overview" if locale == "en-GB" else "Огляд")
    expect(page.locator("nav [aria-current]")).to_be_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 19, 24)") == (scheme == "dark")


def test_the_overview_is_one_screen(look, server):
    page = look(f"{server.url}/")

    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_first_steps_can_be_read(look, empty_server, width):
    page = look(f"{empty_server.url}/", width=width)

    expect(page.get_by_text("zap sample-history")).to_be_visible()
    expect(page.get_by_role("button", name="Start the training")).to_be_disabled()


def test_times_are_in_the_zone_of_the_reader(look, server):
    page = look(f"{server.url}/")

    shown = page.locator("main time").first
    stored = shown.get_attribute("datetime")
    hours = (int(shown.inner_text().rpartition(" ")[2][:2]) - int(stored[11:13])) % 24
    assert hours in {2, 3}
    assert shown.get_attribute("title").endswith("UTC")


def test_language_and_colours_are_chosen_at_once(look, server):
    page = look(f"{server.url}/")

    page.get_by_label("Language").select_option("uk")
    expect(page.get_by_role("heading", level=1)).to_have_text("Огляд")
    page.get_by_label("Кольори").select_option("dark")
    expect(page.locator("html[data-scheme=dark]")).to_be_attached()
    page.get_by_label("Кольори").select_option("light")
    expect(page.locator("html[data-scheme=light]")).to_be_attached()


def test_without_javascript_the_choice_is_a_button(look, server):
    page = look(f"{server.url}/", script=False)

    page.get_by_label("Colours").select_option("dark")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("html[data-scheme=dark]")).to_be_attached()


def test_the_keyboard_reaches_the_content(look, server):
    page = look(f"{server.url}/")

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_plot_is_drawn_with_its_table_and_downloads(look, server):
    count = 120
    line = [0.5 + 0.001 * one if one % 7 else None for one in range(count)]
    plot = Plot(
        x=[1.75e9 + 86400 * one for one in range(count)],
        lines=[
            Line("model", line, low=[v and v - 0.1 for v in line], high=[v and v + 0.1 for v in line]),
            Line('guessing "best"', [0.8] * count, kind="dashed"),
        ],
        x_label="day",
        y_label="log loss, nats",
        decimals=3,
        marks=[Mark(1.75e9 + 86400 * 40, "version 2")],
        y_from=0.0,
    )
    page = look(f"{server.url}/")
    assets = page.locator("link[rel=stylesheet]").first.get_attribute("href").rpartition("/")[0]
    reader = Reader(
        "en", "auto", "", "/trial", "0", "0", is_new=False, has_login=False, is_stranger=False, is_secure=False
    )
    from zap.pages.figures import Bin  # noqa: PLC0415

    html = environment("en").from_string(PLOTTED).render(
        reader=reader, path=reader.path, assets=assets, plot=plot, bins=[Bin(0.5, 0.4, 20), Bin(0.9, 0.95, 80)]
    )  # fmt: skip
    policy = {"Content-Type": "text/html", "Content-Security-Policy": PAGE_SECURITY_POLICY}
    page.route("**/trial", lambda route: route.fulfill(body=html, headers=policy))
    page.goto(f"{server.url}/trial")

    expect(page.locator("figure.plot canvas")).to_be_visible()
    expect(page.locator(".u-legend")).to_contain_text("guessing")
    with page.expect_download() as saved:
        page.locator("figure.plot").get_by_role("button", name="CSV").click()
    rows = saved.value.path().read_text().splitlines()
    assert rows[0] == 'day,model,model: from,model: to,"guessing ""best"""'
    assert rows[1].startswith("2025-06-15T15:06Z,,,,0.8")
    assert len(rows) == 1 + count
    with page.expect_download() as saved:
        page.locator("figure.plot").get_by_role("button", name="PNG").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as saved:
        page.locator("figure.drawn").get_by_role("button", name="SVG").click()
    assert saved.value.path().read_text().startswith("<svg")
    page.locator("figure.plot summary").click()
    expect(page.get_by_role("cell", name="0.501").first).to_be_visible()


def test_a_saved_table_has_no_formulas(look, server):
    page = look(f"{server.url}/")
    assets = page.locator("link[rel=stylesheet]").first.get_attribute("href").rpartition("/")[0]
    rows = [["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"], ["Level 2", "+0.5", "-1,234.5", "-5%", -1e-9, None]]

    with page.expect_download() as saved:
        page.evaluate(
            "async ([from, rows]) => (await import(from)).saveRows(rows, 'rows')", [f"{assets}/saving.js", rows]
        )

    with saved.value.path().open(newline="") as file:
        assert [*csv.reader(file)] == [
            ["'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", "'\t=1", "'\r=1"],
            ["Level 2", "+0.5", "-1,234.5", "-5%", "-1e-9", ""],
        ]


def test_a_person_logs_in_and_out(look, trained_sqlite):
    server = served(trained_sqlite, api_key=SecretStr(KEY), workers=2)
    try:
        page = look(f"{server.url}/pages/login?next=/")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        for _ in range(6):
            page.reload()
            expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        # A link in a chat leads to its page: a browser sends no cookie with it.
        page.goto("about:blank")
        page.set_content(f'<a href="{server.url}/pages/quality?by=day">look</a>')
        page.get_by_text("look").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Quality")
        assert page.url == f"{server.url}/pages/quality?by=day"
        page.goto(f"{server.url}/")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.goto(f"{server.url}/")
        expect(page.get_by_label("API key")).to_be_visible()
    finally:
        server.close()


def test_a_running_training_is_followed_to_its_end(look, trained_sqlite):
    server = served(trained_sqlite)
    try:
        begun = page = look(f"{server.url}/")
        page.request.post(f"{server.url}/train-model", headers={"Prefer": "respond-async"})
        page.reload()
        expect(begun.locator("[data-run]")).to_be_visible()
        until = time.monotonic() + 60
        while page.locator("[data-run]").count() and time.monotonic() < until:
            page.wait_for_timeout(300)
        expect(page.get_by_role("link", name="Version 2")).to_be_visible()
    finally:
        server.close()
