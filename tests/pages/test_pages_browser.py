"""The pages in a real browser: what one page does, with JavaScript and without it."""

import csv
import time
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect
from watched_page import disturbances, window

from zap.db.engine import process_lock, write_transaction
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import cancel_run, claim_run
from zap.pages.plots import Line, Mark, Plot
from zap.pages.reader import Reader
from zap.pages.templates import environment
from zap.public import PAGE_SECURITY_POLICY

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


@pytest.fixture
def look(browser):
    """Return a function that opens a page as a person with these habits, and checks the page when the test ends."""
    opened = ExitStack()

    def look(url, *, script=True, **habits):
        page = opened.enter_context(window(browser, java_script_enabled=script, **habits))
        page.goto(url)
        if script:
            opened.callback(lambda: still(page, url))
        return page

    def still(page, url):
        assert disturbances(page, "/".join(url.split("/")[:3])) == []

    with opened:
        yield look


def test_the_overview_is_one_screen(look, used_server):
    page = look(f"{used_server.url}/")

    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_times_are_in_the_zone_of_the_reader(look, used_server):
    page = look(f"{used_server.url}/")

    shown = page.locator("main time").first
    stored = shown.get_attribute("datetime")
    hours = (int(shown.inner_text().rpartition(" ")[2][:2]) - int(stored[11:13])) % 24
    assert hours in {2, 3}
    assert shown.get_attribute("title").endswith("UTC")


def test_without_javascript_the_choice_is_a_button(look, used_server):
    page = look(f"{used_server.url}/", script=False)

    page.get_by_label("Colours").select_option("dark")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("html[data-scheme=dark]")).to_be_attached()


def test_the_keyboard_reaches_the_content(look, used_server):
    page = look(f"{used_server.url}/")

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_plot_is_drawn_with_its_table_and_downloads(look, used_server):
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
    page = look(f"{used_server.url}/")
    assets = page.locator("link[rel=stylesheet]").get_attribute("href").rpartition("/")[0]
    reader = Reader(
        "en", "auto", "", "/trial", "0", "0", is_new=False, has_login=False, is_stranger=False, is_secure=False
    )
    from zap.pages.figures import Bin  # noqa: PLC0415

    html = environment("en").from_string(PLOTTED).render(
        reader=reader, path=reader.path, assets=assets, plot=plot, bins=[Bin(0.5, 0.4, 20), Bin(0.9, 0.95, 80)]
    )  # fmt: skip
    policy = {"Content-Type": "text/html", "Content-Security-Policy": PAGE_SECURITY_POLICY}
    page.route("**/trial", lambda route: route.fulfill(body=html, headers=policy))
    page.goto(f"{used_server.url}/trial")

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


def test_a_saved_table_has_no_formulas(look, used_server):
    page = look(f"{used_server.url}/")
    assets = page.locator("link[rel=stylesheet]").get_attribute("href").rpartition("/")[0]
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


def test_the_plots_of_quality_are_on_the_first_screen(look, used_server):
    page = look(f"{used_server.url}/pages/quality")

    expect(page.locator("figure.plot canvas")).to_have_count(2)
    bottoms = page.evaluate(
        "[...document.querySelectorAll('.plot .canvas')].map((one) => one.getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= 800


@pytest.mark.parametrize(
    ("width", "path"), [(1280, "/pages/predictions"), (1280, "/manual"), (390, "/manual/reference")]
)
def test_a_page_does_not_move_when_its_script_comes_late(look, used_server, width, path):
    """A time in the zone of the reader is narrower than the stored one, so nobody may see the stored one before it."""
    page = look("about:blank", viewport={"width": width, "height": 800}, locale="uk-UA")
    page.route("**/*.js", lambda route: (time.sleep(0.3), route.continue_()))
    page.goto(used_server.url + path)

    assert disturbances(page, used_server.url) == []
    assert page.evaluate("window.shifts") == []


def test_a_training_that_runs_is_followed(look, used_server):
    # A run whose process does not hold this lock counts as dead.
    with process_lock(used_server.engine, PROCESS_LOCK, timeout=5):
        number = claim_run(used_server.engine, "train", {"note": "slow"})
        page = look(f"{used_server.url}/pages/trainings/{number}")
        expect(page.locator("[data-phase]")).to_have_text("starting")
        with write_transaction(used_server.engine) as connection:
            add_events(connection, number, [{"phase": "fit", "done": 3, "total": 4, "log_loss": 0.61}])

        expect(page.locator("[data-phase]")).to_have_text("fitting")
        expect(page.locator("[data-loss]")).to_contain_text("0.6100")
        assert page.locator("progress").evaluate("(one) => one.value") == 0.75
        cancel_run(used_server.engine, number)
        expect(page.locator("main .head")).to_contain_text("cancelled")


def test_without_javascript_everything_but_the_plot_is_there(look, used_server):
    page = look(f"{used_server.url}/pages/trainings/1", script=False)
    expect(page.get_by_text("The plot needs JavaScript")).to_be_visible()
    page.goto(f"{used_server.url}/pages/models")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two versions beside each other")
    page.goto(f"{used_server.url}/pages/predictions")
    page.get_by_label("What happened").select_option("right")
    page.get_by_role("button", name="Search").click()
    assert page.url == f"{used_server.url}/pages/predictions?outcome=right"
    expect(page.locator(".answers .at-id")).to_have_count(25)
