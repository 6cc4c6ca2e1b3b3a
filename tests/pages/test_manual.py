"""GET /manual: every page, its links, and the pages in a real browser with no internet."""

import re
import time
from pathlib import Path

import pytest
from conftest import client_of
from playwright.sync_api import expect
from readable import covered_texts, faint_texts, unnamed_controls

from zap.pages.manual_pages import PAGES
from zap.pages.markdown import render

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = [1280, 360]


def links(text):
    # Examples in the text link to nothing.
    text = re.sub(r"<code.*?</code>", "", text, flags=re.DOTALL)
    return re.findall(r'(?:src|href|data-index)="([^"]+)"', text)


def anchors(text):
    return set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_served_and_its_links_lead_somewhere(shared_client, name):
    page = shared_client.get(f"/manual/{name}")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == shared_client.get("/docs").headers["content-security-policy"]
    assert re.findall(r"<script(?![^>]*src=)|style=|\son\w+=", page.text) == []
    for link in links(page.text):
        if link.startswith("https://"):
            continue
        address, _, anchor = link.partition("#")
        assert not address or address.startswith(("/manual", "/docs")), link
        target = shared_client.get(address) if address else page
        assert target.status_code == 200, link
        assert not anchor or anchor in anchors(target.text), link


def test_pictures_have_their_media_type(shared_client):
    for name, type_ in (("performance.svg", "image/svg+xml"), ("pages-overview.png", "image/png")):
        picture = shared_client.get(f"/manual/{name}")

        assert picture.headers["content-type"].partition(";")[0] == type_
        assert picture.content == (ROOT / "zap" / "manual" / name).read_bytes()


def test_the_place_of_a_picture_is_free_before_it_comes(shared_client):
    pictures = [
        one
        for name in ("start", "pages", "performance")
        for one in re.findall(r"<img [^>]*>", shared_client.get(f"/manual/{name}").text)
    ]

    assert len(pictures) == 5
    assert all(re.search(r' width="\d{3,4}" height="\d{3,4}"', one) for one in pictures)
    assert any(' width="820" height="330"' in one for one in pictures)
    assert any(' width="1280" height="800"' in one for one in pictures)


@pytest.mark.parametrize("name", PAGES)
def test_its_links_work_as_files_too(shared_client, name):
    folder = ROOT / "zap" / "manual"
    for link in re.findall(r"\]\(([^)]+)\)", (folder / f"{name}.md").read_text()):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = folder / (file or f"{name}.md")
            assert target.is_file(), link
            # GitHub makes the same anchors.
            assert not anchor or anchor in anchors(shared_client.get(f"/manual/{target.stem}").text), link


def test_it_begins_with_the_first_page(shared_client):
    assert shared_client.get("/manual").content == shared_client.get(f"/manual/{PAGES[0]}").content


def test_it_is_rendered_once(shared_client):
    # Rendering takes time on the event loop, which answers all clients.
    for name in PAGES:
        assert shared_client.get(f"/manual/{name}").status_code == 200
    seconds = []
    for path in ("/manual/reference", "/health/live"):
        before = time.process_time()
        for _ in range(200):
            assert shared_client.get(path).status_code == 200
        seconds.append(time.process_time() - before)

    assert seconds[0] < 3 * seconds[1]


def test_docs_and_manual_lead_to_each_other(shared_client):
    assert 'href="/docs"' in shared_client.get("/manual").text
    assert shared_client.get("/openapi.json").json()["externalDocs"]["url"] == "/manual"


@pytest.mark.parametrize("name", ["nothing", "start.md", "..%2fapp.py", "start%00", "x" * 3000])
def test_what_is_no_page_is_a_problem(shared_client, name):
    reply = shared_client.get(f"/manual/{name}")

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.content) < 1000


def test_behind_a_prefix_every_address_has_it(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"root_path": "/zap"})) as client:
        page = client.get("/zap/manual/start")
        inner = [link for link in links(page.text) if not link.startswith(("#", "https://"))]
        assert [link for link in inner if not link.startswith(("/zap/manual", "/zap/docs"))] == []
        assert all(client.get(link).status_code == 200 for link in set(inner))
        assert client.get("/zap/openapi.json").json()["externalDocs"]["url"] == "/zap/manual"


def test_html_in_markdown_is_text():
    html = render('# A <script>alert(1)</script>\n\n<img src=x onerror="x"> [a](https://a "b")\n', "", {}, {}).html

    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    "text", ["# A\n\n[b](b.md)\n", "# A\n\n[b](javascript:x)\n", "# A\n\n![b](b.svg)\n", "no heading\n"]
)
def test_a_page_with_a_link_to_nowhere_is_refused(text):
    if "javascript" in text:
        # The parser itself makes no link of it.
        assert 'href="javascript' not in render(text, "", {}, {}).html
        return
    with pytest.raises(ValueError, match=r"no page|no picture|heading"):
        render(text, "", {}, {})


def test_equal_headings_have_anchors_of_their_own():
    headings = render("# A\n\n## In `C`, twice\n\n## In `C`, twice\n\n## Де це?\n", "", {}, {}).headings

    assert [heading.anchor for heading in headings] == ["a", "in-c-twice", "in-c-twice-1", "де-це"]


# In a browser.


@pytest.fixture(scope="module")
def server(empty_server):
    """Return one server for all tests, because the manual does not depend on the data."""
    return empty_server


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_shows_without_errors_and_nothing_overflows(page, server, width):
    page.set_viewport_size({"width": width, "height": 800})
    for name in PAGES:
        page.goto(f"/manual/{name}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("#search")).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, name
        # Nothing is cut off either: what is wider than its place lies in a box that scrolls.
        outside = page.evaluate(
            """width => [...document.querySelectorAll("main *, header *")]
                 .filter((one) => one.getBoundingClientRect().right > width + 1 && !one.closest("pre, .table"))
                 .map((one) => one.outerHTML)
            """,
            width,
        )
        assert outside == [], name
        # No table is cut off at the edge: the rows of wide tables are blocks on narrow screens.
        tables = "[...document.querySelectorAll('.table')]"
        assert page.evaluate(f"{tables}.filter((one) => one.scrollWidth > one.clientWidth + 1).length") == 0, name
        if width == max(WIDTHS):
            assert page.evaluate(f"{tables}.filter((one) => one.matches('.stacked')).length") == 0, name
        broken = page.evaluate(
            """[...document.querySelectorAll("code")].filter((one) => !one.closest("pre"))
                 .flatMap((one) => [...one.querySelectorAll(".option")].filter((part) =>
                   part.getClientRects().length > 1
                   || part.getBoundingClientRect().right > part.closest("td, p, li").getBoundingClientRect().right))
                 .map((one) => one.textContent)
            """
        )
        assert broken == [], name
        # A scheme has colours and moves nothing.
        assert covered_texts(page, "main") == [], name
        if width == max(WIDTHS):
            # What follows does not depend on the width.
            continue
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert faint_texts(page) == [], (name, scheme)
        assert unnamed_controls(page) == [], name
        pictures = page.evaluate("[...document.images].map((one) => one.complete && one.naturalWidth > 0)")
        assert all(pictures), name

    assert page.problems == []
    assert [url for url in page.asked if not url.startswith((server.url, "data:"))] == []


def test_the_search_finds_a_word_with_the_keyboard_alone(page, server):
    page.goto("/manual")
    page.keyboard.press("/")
    page.keyboard.type("pgbouncer")
    first = page.locator("#found [role=option]").first
    expect(first).to_contain_text("Poolers")
    expect(first.locator("mark").first).to_have_text("PgBouncer")
    page.keyboard.press("Enter")
    page.wait_for_url("**/manual/operating#poolers")
    expect(page.locator("#poolers")).to_be_in_viewport()

    page.keyboard.press("/")
    page.keyboard.type("ZAP_ROOT_PATH proxy")
    expect(page.locator("#found [role=option]").first).to_contain_text("Operating: Behind a proxy")
    second = page.locator("#found [role=option]").nth(1)
    page.keyboard.press("ArrowDown")
    expect(second).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    assert page.problems == []
    assert [url for url in page.asked if not url.startswith(server.url)] == []


def test_the_search_begins_with_titles_and_whole_words(page):
    page.goto("/manual")
    names = page.locator("#found b")
    field = page.locator("#search input")
    field.fill("n/a")
    # "bin/activate" has it inside a word: the pages with the word itself come before it.
    expect(names.last).to_have_text("Reference: Commands")
    places = [page.locator("#found small").nth(one).inner_text() for one in range(names.count())]
    whole = [re.search(r"(?<!\w)n/a(?!\w)", place, re.IGNORECASE) is not None for place in places]
    assert any(whole)
    assert whole == sorted(whole, reverse=True)

    # "Tuning" is another form of the word, and the title of a page.
    field.fill("tune")
    expect(names.first).to_have_text("Tuning")
    field.press("Enter")
    page.wait_for_url("**/manual/tuning#tuning")


def test_an_option_and_its_value_are_not_parted():
    html = render("# A\n\n`zap train --test-share 0.2 --to-the-end`, `a - b`, `bin/a-b <c>`\n", "", {}, {}).html

    assert '<code>zap train <span class="option">--test-share 0.2</span> <span class="option">--to-the-end' in html
    assert "<code>a - b</code>, <code>bin/a-b &lt;c&gt;</code>" in html


def test_the_search_says_when_there_is_nothing(page):
    page.goto("/manual/uk")
    page.locator("#search input").fill("xyzzy <b>")
    expect(page.locator("#found")).to_contain_text("Nothing found")
    page.locator("#search input").fill("таблиці")
    expect(page.locator("#found [role=option]").first).to_contain_text("Де лежать таблиці")


def test_dark_mode_changes_the_colours(page):
    page.goto("/manual")
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        style = "getComputedStyle(document.querySelector('{}')).{}"
        colours.append([page.evaluate(style.format(*one)) for one in (("body", "backgroundColor"), ("pre", "color"))])
    assert colours[0][0] == "rgb(255, 255, 255)"
    assert all(light != dark for light, dark in zip(*colours, strict=True))


def test_the_docs_lead_to_the_manual(page):
    page.goto("/docs")
    link = page.locator(".info a", has_text="The manual")
    expect(link).to_be_visible(timeout=60_000)
    with page.context.expect_page() as opened:
        link.click()
    expect(opened.value.locator("h1")).to_contain_text("Start with zap")
