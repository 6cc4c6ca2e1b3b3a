"""The pages in a real browser: what one page does, with JavaScript and without it."""

import base64
import csv
import time
from contextlib import ExitStack
from datetime import datetime

import pytest
from playwright.sync_api import expect
from watched_page import disturbances, window

from zap.db.engine import process_lock, write_transaction
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import cancel_run, claim_run
from zap.pages.drawings import time_line
from zap.pages.plots import Line, Mark, Plot
from zap.pages.reader import Reader
from zap.pages.templates import environment
from zap.public import PAGE_SECURITY_POLICY

OTHER_SITE = (
    '<!doctype html><a href="%s/pages/models">look</a>'
    '<form method="post" action="%s/pages/choices"><button>send</button></form>'
)
# What a page with a plot looks like.
PLOTTED = """
{% extends "layout.html" %}{% import "pieces.html" as piece with context %}
{% import "drawings.html" as drawing with context %}
{% block title %}Trial{% endblock %}
{% block scripts %}{{ piece.plot_script() }}{% endblock %}
{% block content %}{% call piece.card("Log loss", kind="full") %}
{{ piece.plot(plot, "log-loss", "Log loss of each day.") }}{% endcall %}
{% call piece.card("Calibration") %}
{% call piece.drawn(figures.calibration(bins, "confidence", "right"), "calibration", "On the line is right.") %}
{{ piece.table([("confidence", "number")], [[0.5]]) }}{% endcall %}{% endcall %}
{% call piece.card("Past") %}{% call piece.drawn(drawing.time_line(line), "past", "The past.") %}
{{ drawing.time_line_table(line) }}{% endcall %}{% endcall %}{% endblock %}
"""


# The colours of a picture, the most frequent one first. A picture that is empty has one.
COLOURS = """async (address) => {
  const image = new Image(), canvas = document.createElement("canvas");
  image.src = address;
  await image.decode();
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d"), counts = {};
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const colour = data.slice(at, at + 4).join();
    counts[colour] = (counts[colour] ?? 0) + 1;
  }
  return Object.keys(counts).sort((one, other) => counts[other] - counts[one]);
}"""


def colours_of(page, path):
    """Return the colours of a saved picture."""
    data = path.read_bytes()
    kind = "image/png" if data.startswith(b"\x89PNG") else "image/svg+xml"
    return page.evaluate(COLOURS, f"data:{kind};base64,{base64.b64encode(data).decode()}")


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
    page = look(f"{used_server.url}/", color_scheme="dark")
    assets = page.locator("link[rel=stylesheet]").first.get_attribute("href").rpartition("/")[0]
    reader = Reader(
        "en",
        "dark",
        "",
        "/trial",
        "0",
        "0",
        is_new=False,
        is_asking=True,
        key_name=None,
        who=None,
        scopes=None,
        is_stranger=False,
        is_secure=False,
    )
    from zap.pages.figures import Bin  # noqa: PLC0415

    moments = [datetime.fromisoformat(f"2026-01-0{day}") for day in range(1, 10)]
    past = time_line([("wrong" if day % 2 else "session", at, "Level 2") for day, at in enumerate(moments)])

    html = environment("en").from_string(PLOTTED).render(
        reader=reader, path=reader.path, assets=assets, plot=plot, bins=[Bin(0.5, 0.4, 20), Bin(0.9, 0.95, 80)],
        line=past
    )  # fmt: skip
    policy = {"Content-Type": "text/html", "Content-Security-Policy": PAGE_SECURITY_POLICY}
    page.route("**/trial", lambda route: route.fulfill(body=html, headers=policy))
    page.goto(f"{used_server.url}/trial")

    expect(page.locator("figure.plot canvas")).to_be_visible()
    expect(page.locator(".u-legend")).to_contain_text("guessing")
    with page.expect_download() as saved:
        page.locator("figure.plot").get_by_role("button", name="CSV").click()
    rows = saved.value.path().read_text().splitlines()
    names = ["model", "model, from", "model, to", 'guessing ""best""']
    assert rows[0] == ",".join(["day", *(f'"{name}: log loss, nats"' for name in names)])
    assert rows[1].startswith("2025-06-15T15:06Z,,,,0.8")
    assert len(rows) == 1 + count
    with page.expect_download() as saved:
        page.locator("figure.plot").get_by_role("button", name="PNG").click()
    assert len(colours_of(page, saved.value.path())) > 5
    assert page.evaluate("document.documentElement.dataset.scheme") == "dark"
    drawn = page.locator("figure.drawn")
    for kind in ("SVG", "PNG"):
        with page.expect_download() as saved:
            drawn.first.get_by_role("button", name=kind).click()
        assert saved.value.suggested_filename == f"calibration.{kind.lower()}"
        colours = colours_of(page, saved.value.path())
        assert len(colours) > 5
        # The page is dark, and the picture can be read on paper.
        assert colours[0] == "255,255,255,255"
    with page.expect_download() as saved:
        drawn.last.get_by_role("button", name="SVG").click()
    text = saved.value.path().read_text()
    assert "<title>The past.</title>" in text
    # A mark has the colours of the place where it is used.
    assert '<circle id="mark-session" r="3.5"/>' in text
    assert '<path id="mark-wrong" d="M-4.5-4.5L4.5 4.5M4.5-4.5L-4.5 4.5"/>' in text
    assert len(colours_of(page, saved.value.path())) > 5
    page.locator("figure.plot summary").click()
    expect(page.get_by_role("cell", name="0.501").first).to_be_visible()


def test_a_saved_table_has_no_formulas(look, used_server):
    page = look(f"{used_server.url}/")
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


def test_the_plots_of_quality_are_on_the_first_screen(look, used_server):
    page = look(f"{used_server.url}/pages/quality")

    expect(page.locator("figure.plot canvas")).to_have_count(2)
    bottoms = page.evaluate(
        "[...document.querySelectorAll('.plot .canvas')].map((one) => one.getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= 800


def test_a_link_on_another_site_keeps_the_forms_of_other_tabs(look, used_server):
    """A browser sends a strict cookie with no link on another site, so the link would begin another visit."""
    form = look(f"{used_server.url}/")
    context = form.context
    token = form.locator("[name=token]").first.input_value()
    cookie = [one for one in context.cookies() if one["name"] == "zap_visit"]
    assert [one["sameSite"] for one in cookie] == ["Lax"]
    chat = context.new_page()
    # The other site: for a browser, localhost and 127.0.0.1 are two sites.
    chat.route(
        "http://localhost/**",
        lambda route: route.fulfill(body=OTHER_SITE % (used_server.url, used_server.url), content_type="text/html"),
    )
    chat.goto("http://localhost/chat")

    chat.get_by_text("look").click()

    expect(chat.get_by_role("heading", level=1)).to_have_text("Models")
    assert chat.locator("[name=token]").first.input_value() == token
    # Nor does a form of another site, which is refused, begin another visit.
    chat.goto("http://localhost/chat")
    chat.get_by_role("button").click()
    expect(chat.get_by_role("heading", level=1)).to_have_text("A page of another site may not change anything here")
    assert [one for one in context.cookies() if one["name"] == "zap_visit"] == cookie
    form.get_by_label("Language").select_option("uk")
    expect(form.get_by_role("heading", level=1)).to_have_text("Огляд")


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
