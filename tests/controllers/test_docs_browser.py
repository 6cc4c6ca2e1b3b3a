"""/docs in a real browser, with no internet: the page renders, and Execute shows 200."""

import json
import shutil

import pytest
from histories import all_but_first
from playwright.sync_api import expect
from readable import covered_texts, faint_texts, unnamed_controls
from servers import Server
from watched_page import HABITS, window

from zap.db.engine import create_engine, write_transaction
from zap.db.versions.tunings import add_tuning
from zap.settings import Settings

# Each method and each kind of description is among them.
SHOWN = ("predict", "trainModel", "removeChargingSession", "live")
VIEWS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    """Yield one server for all tests. Its history is short and its trees are few, so that a training is short too."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        connection.execute(all_but_first(500))
        add_tuning(connection, {"n_estimators": 10}, None)
    engine.dispose()
    server = Server(settings)
    yield server.wait()
    server.close()


@pytest.fixture(scope="module")
def docs(browser, server):
    """Open the page once: it takes a second of a core."""
    with window(browser) as page:
        page.goto(f"{server.url}/docs")
        yield page


@pytest.fixture
def page(docs):
    """Yield the page with all routes folded, as it is opened."""
    yield docs
    docs.set_viewport_size(HABITS["viewport"])
    docs.emulate_media(color_scheme="light")
    for opened in docs.locator(".opblock.is-open .opblock-summary-control").all()[::-1]:
        opened.click()


def execute(page, operation, media_type=None):
    block = page.locator(f"[id$='-{operation}']")
    block.locator(".opblock-summary-control").click()
    if media_type:
        block.locator(".opblock-section-request-body .content-type").select_option(media_type)
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table .response .response-col_status")
    expect(live).to_contain_text("200", timeout=60_000)
    return block.locator(".live-responses-table .response .response-col_description").inner_text()


def test_it_renders_from_its_own_files_only(page, server):
    expect(page.locator(".info .title")).to_contain_text("zap")
    for operation in ("predict", "trainModel", "listTrainingRuns", "listModels", "rollBack", "getPrediction", "ready"):
        expect(page.locator(f"[id$='-{operation}']")).to_be_visible()

    assert page.problems == []
    assert [url for url in page.asked if not url.startswith((server.url, "data:"))] == []


def test_predict_answers_200_with_the_example_as_it_stands(page):
    assert "predicted_class" in execute(page, "predict")
    assert page.problems == []


def test_train_model_answers_200(page):
    assert "test_f1_score" in execute(page, "trainModel")
    assert page.problems == []


def test_ndjson_is_sent_in_lines_and_answered_in_lines(page):
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.post_data))
    shown = execute(page, "predictBatch", "application/x-ndjson")

    assert [type(json.loads(line)) for line in sent[0].splitlines()] == [dict, dict]
    body = shown.partition("Response headers")[0]
    assert body.count('"predicted_class"') == 2
    assert "parse" not in body


# That the ids are answered is looked at without a browser too, where long replies cost nothing (see test_docs.py).
@pytest.mark.parametrize(
    "operations",
    [
        ("live", "getPrediction", "followTrainingRun"),
        # Swagger UI draws long replies again with each later one.
        pytest.param(("getTrainingRun", "getModel"), marks=pytest.mark.long),
    ],
)
def test_every_number_is_there_already(page, operations):
    for operation in operations:
        assert execute(page, operation)


def test_the_answers_are_shown_and_the_schemas_are_folded(page):
    block = page.locator("[id$='-predict']")
    block.locator(".opblock-summary-control").click()

    expect(block.locator(".response[data-code='422']")).to_contain_text("urn:zap:problem:invalid-request")
    expect(block.locator(".response[data-code='503']")).to_contain_text("urn:zap:problem:")
    expect(page.locator(".models")).to_be_visible()
    expect(page.locator(".models .json-schema-2020-12")).to_have_count(0)


def test_it_is_light_or_dark_as_the_reader_wants_it_and_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    expect(page.locator(".opblock-tag").first).to_be_visible()
    assert not page.evaluate("document.documentElement.classList.contains('dark-mode')")
    page.emulate_media(color_scheme="dark")
    page.reload()
    expect(page.locator(".opblock-tag").first).to_be_visible()

    assert page.evaluate("document.documentElement.classList.contains('dark-mode')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sentence = page.locator(".opblock-tag small").first.bounding_box()
    assert sentence["width"] > 250


def test_a_field_shows_its_unit_and_range(page):
    block = page.locator("[id$='-predict']")
    block.locator(".opblock-summary-control").click()
    body = block.locator(".opblock-section-request-body")
    body.get_by_role("tab", name="Schema").click()
    body.get_by_role("button", name="Expand all").first.click()
    battery = body.locator(".json-schema-2020-12-property", has_text="battery_capacity_kwh")
    battery.get_by_role("button", name="Expand all").click()

    expect(battery).to_contain_text("number(0, 400]")
    expect(battery).to_contain_text("usable battery size, above 0 to 400 kWh")


def test_everything_can_be_read_on_a_phone_and_on_a_screen_in_light_and_dark(page):
    page.add_style_tag(content="* { transition: none !important; }")
    for operation in SHOWN:
        page.locator(f"[id$='-{operation}'] .opblock-summary-control").click()
        expect(page.locator(f"[id$='-{operation}'] .responses-table .response").first).to_be_visible()
    live = page.locator("[id$='-live']")
    live.get_by_role("button", name="Execute").click()
    expect(live.locator(".live-responses-table .response")).to_be_visible()
    page.locator("[id$='-predict'] .response[data-code='200']").get_by_role("tab", name="Schema").click()
    expect(page.locator("[id$='-predict'] .json-schema-2020-12").first).to_be_visible()

    faults = {}
    for width, scheme in VIEWS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html.dark-mode")).to_have_count(int(scheme == "dark"))
        found = faint_texts(page, "#docs")
        # A scheme has colours and moves nothing.
        found += [] if scheme == "dark" else covered_texts(page, "#docs")
        found += page.evaluate(
            """width => [
                 ...[...document.querySelectorAll(".opblock *")]
                   .filter((one) => one.checkVisibility() && !one.closest("svg, pre"))
                   .filter((one) => one.getBoundingClientRect().right > width + 1),
                 ...[...document.querySelectorAll(".responses-wrapper select")].filter((one) => one.clientWidth < 120),
               ].map((one) => `cut off: ${one.outerHTML.slice(0, 100)}`)""",
            width,
        )
        faults |= {(width, scheme, fault): True for fault in found}
    assert list(faults) == []
    assert unnamed_controls(page, "#docs") == []


def test_the_column_of_links_is_there_only_for_answers_that_lead_somewhere(page):
    for operation, links in (("live", 0), ("predict", 1)):
        block = page.locator(f"[id$='-{operation}']")
        block.locator(".opblock-summary-control").click()
        expect(block.locator(".response[data-code='200']")).to_be_visible()
        expect(block.locator(".responses-header .response-col_links:visible")).to_have_count(links)
        expect(block.get_by_text("No links").locator("visible=true")).to_have_count(0)
