"""The pages of predictions in a real browser: at a desk, on a phone, in the dark, in Ukrainian, without JavaScript."""

import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import expect
from readable import covered_texts, faint_texts, unnamed_controls
from servers import Server

from zap.settings import Settings

DRIVER = "sample-1-00003"
BODY = {"user_id": DRIVER, "state_of_charge_start": 20, "distance_driven_km": 90, "temperature_c": 4}


@pytest.fixture(scope="module")
def asked(_trained_sqlite, tmp_path_factory):
    """Yield the address of a server that has given one answer, and the paths of the pages about it."""
    folder = tmp_path_factory.mktemp("predictions")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    server = Server(settings).wait()
    number = httpx.post(f"{server.url}/predict", json=BODY, timeout=30).json()["prediction_id"]
    paths = {
        "list": "/pages/predictions",
        "one": f"/pages/predictions/{number}",
        "form": f"/pages/predictions/new?user_id={DRIVER}",
        "driver": f"/pages/drivers/{DRIVER}",
    }
    yield SimpleNamespace(url=server.url, number=number, **paths)
    server.close()


@contextmanager
def looking(browser, **habits):
    """Yield a page of a person with these habits. At the end, its console is silent and it has asked nobody else."""
    context = browser.new_context(timezone_id="Europe/Kyiv", **habits)
    page = context.new_page()
    said, addresses = [], []
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    yield page
    assert said == []
    assert {one.partition("//")[2].partition("/")[0] for one in addresses if one.startswith("http")} == {
        page.url.partition("//")[2].partition("/")[0]
    }
    context.close()


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [(1280, "light", "en-GB"), (390, "dark", "uk-UA"), (1280, "dark", "uk-UA"), (390, "light", "en-GB")],
)
def test_the_pages_can_be_read(browser, asked, width, scheme, locale):
    habits = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": locale}
    with looking(browser, **habits) as page:
        for path in (asked.list, asked.one, asked.form, asked.driver):
            page.goto(asked.url + path)

            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert page.get_attribute("html", "lang") == locale[:2]
            assert faint_texts(page, "body") == [], path
            assert covered_texts(page, "main") == [], path
            assert unnamed_controls(page, "body") == [], path


def test_a_person_asks_from_the_form_of_a_driver_and_sees_why(browser, asked):
    with looking(browser, viewport={"width": 1280, "height": 800}, locale="en-GB") as page:
        page.goto(asked.url + asked.driver)
        page.get_by_role("link", name="Ask for this driver").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Ask for a prediction")
        page.get_by_label("Charge left").fill("15")
        page.get_by_role("button", name="Ask and log").click()

        expect(page.get_by_role("heading", level=1)).to_have_text(f"Prediction {asked.number + 1}")
        expect(page.locator(".waterfall .total")).to_be_visible()
        assert page.locator(".waterfall .total").bounding_box()["width"] > 5
        expect(page.locator(".time-line .session").first).to_be_visible()
        with page.expect_download() as saved:
            page.get_by_role("button", name="CSV").first.click()
        assert saved.value.suggested_filename == f"prediction-{asked.number + 1}.csv"
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Prediction {asked.number + 1}")


def test_a_search_is_an_address_and_works_without_javascript(browser, asked):
    with looking(browser, java_script_enabled=False, locale="en-GB") as page:
        page.goto(asked.url + asked.list)
        page.get_by_label("What happened").select_option("right")
        page.get_by_role("button", name="Search").click()

        assert page.url == f"{asked.url}{asked.list}?outcome=right"
        expect(page.get_by_text("No answer matches these filters.")).to_be_visible()
        page.go_back()
        page.get_by_label("Prediction id").fill(str(asked.number))
        page.get_by_role("button", name="Search").click()
        assert page.url == f"{asked.url}{asked.one}"
