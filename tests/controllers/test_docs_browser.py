"""/docs in a real browser, with no internet: the page renders, and Execute shows 200."""

import json

import pytest
from playwright.sync_api import expect


@pytest.fixture
def page(page):
    page.goto("/docs")
    return page


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


@pytest.mark.parametrize("operation", ["getPrediction", "getTrainingRun", "followTrainingRun", "getModel", "live"])
def test_every_number_is_there_already(page, operation):
    assert execute(page, operation)


def test_the_answers_are_shown_and_the_schemas_are_folded(page):
    block = page.locator("[id$='-predict']")
    block.locator(".opblock-summary-control").click()

    expect(block.locator(".response[data-code='422']")).to_contain_text("urn:zap:problem:invalid-request")
    expect(block.locator(".response[data-code='503']")).to_contain_text("urn:zap:problem:")
    expect(page.locator(".models")).to_be_visible()
    expect(page.locator(".models .json-schema-2020-12")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_wants_it_and_fits_a_phone(page, scheme):
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto("/docs")
    expect(page.locator(".opblock-tag").first).to_be_visible()

    assert page.evaluate("document.documentElement.classList.contains('dark-mode')") == (scheme == "dark")
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
