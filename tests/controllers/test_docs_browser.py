"""/docs in a real browser, with no internet: the page renders, and Execute shows 200."""

import pytest
from playwright.sync_api import expect


@pytest.fixture
def page(page):
    page.goto("/docs")
    return page


def execute(page, operation):
    block = page.locator(f"[id$='-{operation}']")
    block.locator(".opblock-summary-control").click()
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
