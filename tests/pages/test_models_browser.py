"""The pages about versions and trainings in a real browser: at a desk, on a phone, in the dark, in Ukrainian."""

import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect
from readable import covered_texts, faint_texts, unnamed_controls
from servers import Server
from trialled import add_copies

from zap.db.engine import create_engine, process_lock, write_transaction
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import claim_run
from zap.flows.trials import try_version
from zap.formats.trial_options import TrialOptions
from zap.settings import Settings

PATHS = {
    "models": "/pages/models",
    "one": "/pages/models/1",
    "compare": "/pages/models/compare?first=1&second=2",
    "promote": "/pages/models/2/promote",
    "try": "/pages/models/3/trial",
    "end": "/pages/models/2/trial/end",
    "trainings": "/pages/trainings",
    "training": "/pages/trainings/1",
}


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    """Yield the address and the database of a server with three versions, one of them on trial."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    engine = create_engine(settings.database_url)
    add_copies(engine, 2)
    try_version(engine, 2, TrialOptions(who="Taras"))
    server = Server(settings).wait()
    yield SimpleNamespace(url=server.url, engine=engine)
    server.close()
    engine.dispose()


@contextmanager
def looking(browser, **habits):
    """Yield a page of a person with these habits. At the end, its console is silent and it has asked nobody else."""
    context = browser.new_context(timezone_id="Europe/Kyiv", reduced_motion="reduce", **habits)
    page = context.new_page()
    said, addresses = [], []
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    yield page
    assert said == []
    here = "/".join(page.url.split("/")[:3])
    assert [one for one in addresses if not one.startswith((here, "data:", "blob:"))] == []
    context.close()


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [(1280, "light", "en-GB"), (390, "dark", "uk-UA"), (1280, "dark", "uk-UA"), (390, "light", "en-GB")],
)
def test_the_pages_can_be_read(browser, server, width, scheme, locale):
    with looking(browser, viewport={"width": width, "height": 800}, color_scheme=scheme, locale=locale) as page:
        for path in PATHS.values():
            page.goto(f"{server.url}{path}")
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert faint_texts(page, "main") == [], path
            assert covered_texts(page, "main") == [], path
            assert unnamed_controls(page, "main") == [], path


def test_a_person_promotes_a_version_and_takes_it_back(browser, server):
    with looking(browser, viewport={"width": 1280, "height": 800}) as page:
        page.goto(f"{server.url}/pages/models")
        page.get_by_role("link", name="3", exact=True).click()
        page.get_by_role("link", name="Promote").click()
        expect(page.get_by_text("Trial 1 of version 2 ends without a verdict")).to_be_visible()
        page.get_by_label("Who decides this").fill("Olena")
        page.get_by_role("button", name="Promote version 3").click()

        expect(page).to_have_url(f"{server.url}/pages/models/3")
        expect(page.get_by_role("cell", name="Olena")).to_be_visible()
        page.reload()
        page.get_by_role("link", name="Roll back to version 1").click()
        page.get_by_role("button", name="Roll back to version 1").click()

        expect(page).to_have_url(f"{server.url}/pages/models/1")
        expect(page.locator("main .head")).to_contain_text("in production")


def test_a_person_follows_a_training_and_cancels_it(browser, server):
    number = claim_run(server.engine, "train", {"note": "slow"})
    # A run whose process does not hold this lock counts as dead.
    alive = process_lock(server.engine, PROCESS_LOCK, timeout=5)
    with alive, looking(browser, viewport={"width": 1280, "height": 800}) as page:
        page.goto(f"{server.url}/pages/trainings/{number}")
        expect(page.locator("[data-phase]")).to_have_text("starting")
        with write_transaction(server.engine) as connection:
            add_events(connection, number, [{"phase": "fit", "done": 3, "total": 4, "log_loss": 0.61}])

        expect(page.locator("[data-phase]")).to_have_text("fitting")
        expect(page.locator("[data-loss]")).to_contain_text("0.6100")
        assert page.locator("progress").evaluate("(one) => one.value") == 0.75
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name="Cancel the training").click()

        expect(page.locator("main .head")).to_contain_text("cancelled")
        expect(page.get_by_text("The version in production is unchanged.")).to_be_visible()


def test_without_javascript_everything_but_the_plot_is_there(browser, server):
    with looking(browser, java_script_enabled=False) as page:
        page.goto(f"{server.url}/pages/trainings/1")
        expect(page.get_by_text("The plot needs JavaScript")).to_be_visible()
        page.goto(f"{server.url}/pages/models")
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Two versions beside each other")
