"""The pages in a real browser: light, dark, narrow, in Ukrainian, without JavaScript, and with nothing to show."""

import base64
import csv
import shutil
import time
from datetime import datetime

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr
from readable import covered_texts, faint_texts, unnamed_controls
from servers import Server

from zap.pages.drawings import time_line
from zap.pages.plots import Line, Mark, Plot
from zap.pages.reader import Reader
from zap.pages.templates import environment
from zap.public import PAGE_SECURITY_POLICY
from zap.settings import Settings

KEY = "correct horse battery"
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
    page = look(f"{server.url}/", scheme="dark")
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
        has_login=False,
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


def test_a_link_on_another_site_keeps_the_forms_of_other_tabs(look, server):
    """A browser sends a strict cookie with no link on another site, so the link would begin another visit."""
    form = look(f"{server.url}/")
    context = form.context
    token = form.locator("[name=token]").first.input_value()
    cookie = [one for one in context.cookies() if one["name"] == "zap_visit"]
    assert [one["sameSite"] for one in cookie] == ["Lax"]
    chat = context.new_page()
    # The other site: for a browser, localhost and 127.0.0.1 are two sites.
    chat.route(
        "http://localhost/**",
        lambda route: route.fulfill(body=OTHER_SITE % (server.url, server.url), content_type="text/html"),
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
