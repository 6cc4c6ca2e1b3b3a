"""The overview in a real browser: it fits one screen in each state, and stays fresh without disturbing its reader."""

import re
import shutil

import pytest
from filled import fill
from playwright.sync_api import expect
from servers import Server
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.db.monitoring.trials import begin_trial
from zap.db.runs.training_runs import cancel_run, claim_run, running_run
from zap.formats.trial_options import TrialOptions
from zap.settings import Settings

LONG = (
    "Since 2 November, the answers of version 1 score worse than its test promised: the mean score over 28 days is"
    " 0.412 of 812 drivers, and 0.335 was promised. Without a real change, this happens at most once in 12 years."
)
ALARMS = (("harm", "version 1"), ("drift", "version 1"), ("follower_behind", ""), ("log_slow", ""))
# The lowest edge of the cards: everything that the overview is for.
_EDGE = "Math.max(...[...document.querySelectorAll('.card')].map((card) => card.getBoundingClientRect().bottom))"
# `void`, because Playwright waits for a promise that it is given.
NOTICE = "void (window.renewed = new Promise((done) => document.addEventListener('renewed', done, { once: true })))"
_SHIFTS = (
    "window.shifts = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
    " window.shifts += one.value; }).observe({ type: 'layout-shift', buffered: true });"
)


@pytest.fixture(scope="module")
def busy(_trained_sqlite, tmp_path_factory):
    """Yield a server, and the engine of its database: three versions, a trial, and four long alarms."""
    folder = tmp_path_factory.mktemp("busy")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    engine = create_engine(settings.database_url)
    fill(engine, alarmed=False)
    numbers = add_copies(engine, 2)
    with write_transaction(engine) as connection:
        begin_trial(connection, numbers[0], TrialOptions())
        for kind, subject in ALARMS:
            raise_alarm(connection, kind, subject, LONG, {}, posts=False)
    server = Server(settings).wait()
    yield server, engine
    server.close()
    engine.dispose()


@pytest.fixture
def opened(browser):
    """Return a function that opens a page at 1280 x 800 with a clock that the test moves."""
    contexts = []

    def opened(url, locale="en-GB", *, script=True):
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, locale=locale, java_script_enabled=script, timezone_id="UTC"
        )
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.add_init_script(_SHIFTS)
        if script:
            page.clock.install()
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()


def begun(engine):
    """Return the number of a training that runs. It has no process, so after some time zap takes it for dead."""
    if (running := running_run(engine)) is not None:
        cancel_run(engine, running)
    return claim_run(engine, "train", {})


def after(page, seconds):
    """Let seconds pass for the page, and wait until it shows what it fetches then."""
    page.evaluate(NOTICE)
    page.clock.fast_forward(1000 * seconds)
    page.evaluate("window.renewed")


def fetched(page):
    """Return the list to which the page's fetches are added."""
    found = []
    page.on("request", lambda asked: asked.resource_type == "fetch" and found.append(asked.url))
    return found


def look_away(page, *, away):
    page.evaluate(
        "(away) => { Object.defineProperty(document, 'hidden', { get: () => away, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        away,
    )


@pytest.mark.parametrize("locale", ["en-GB", "uk-UA"])
def test_the_essentials_fit_one_screen_in_the_fullest_state(opened, busy, locale):
    begun(busy[1])
    page = opened(busy[0].url, locale)

    for part in ("verdict", "serving", "versions", "training", "production", "alarms"):
        expect(page.locator(f"#{part}")).to_be_visible()
    expect(page.locator("#alarms > ul > li")).to_have_count(3)
    expect(page.locator("#alarms > details > summary")).to_be_visible()
    expect(page.locator("#versions tbody tr")).to_have_count(3)
    expect(page.locator("#production")).to_contain_text("on trial" if locale == "en-GB" else "випроб")
    assert page.evaluate(_EDGE) <= 800


def test_it_stays_fresh_and_disturbs_nobody(opened, busy):
    server, engine = busy
    page = opened(server.url)
    page.locator("#alarms summary").nth(1).click()
    kept = page.locator("#alarms details[open]").inner_text()
    page.get_by_role("link", name="Trainings").last.focus()
    page.evaluate("window.before = document.activeElement")
    page.evaluate("document.querySelector('time[data-clock]').firstChild.data = '00:00:00'; window.shifts = 0")

    after(page, 31)

    expect(page.locator("time[data-clock]")).not_to_have_text("00:00:00")
    assert page.evaluate("document.activeElement === window.before && window.shifts < 0.001")
    assert not page.locator("[data-lost]").is_visible()

    with write_transaction(engine) as connection:
        raise_alarm(connection, "disk_nearly_full", "", "The disk has 812 MB left.", {}, posts=False)
    add_copies(engine)
    after(page, 31)

    expect(page.get_by_text("The disk has 812 MB left.")).to_be_visible()
    expect(page.get_by_text("5 alarms")).to_be_visible()
    expect(page.locator("#versions tbody tr").first).to_contain_text("4")
    assert page.locator("#alarms details[open]").inner_text() == kept
    assert page.evaluate("document.activeElement === window.before")
    with write_transaction(engine) as connection:
        resolve_alarm(connection, "disk_nearly_full", "", posts=False)
    after(page, 31)
    expect(page.get_by_text("4 alarms")).to_be_visible()
    assert page.locator("#alarms details[open]").inner_text() == kept
    assert page.problems == []


def test_it_asks_for_nothing_while_nobody_looks(opened, busy):
    page = opened(busy[0].url)
    asked = fetched(page)

    look_away(page, away=True)
    page.clock.fast_forward(600_000)
    assert asked == []
    page.evaluate(NOTICE)
    look_away(page, away=False)
    page.clock.run_for(10)
    page.evaluate("window.renewed")

    assert asked == [f"{busy[0].url}/"]


def test_it_says_when_the_server_cannot_be_reached(opened, busy):
    page = opened(busy[0].url)
    said = page.locator("time[data-clock]").inner_text()
    page.route("**/*", lambda route: route.abort())

    page.clock.fast_forward(31_000)

    expect(page.get_by_role("status")).to_have_text(re.compile(r"The server cannot be reached since \d\d:\d\d\."))
    assert page.locator("time[data-clock]").inner_text() == said
    page.unroute_all()
    after(page, 31)
    expect(page.get_by_role("status")).to_have_count(0)


def test_without_javascript_it_says_of_when_it_is(opened, busy):
    page = opened(busy[0].url, script=False)

    expect(page.get_by_text("UTC", exact=False).first).to_be_visible()
    assert not page.locator("[data-lost]").is_visible()


def test_a_training_that_ends_and_one_that_begins_are_noticed(opened, busy):
    server, engine = busy
    number = begun(engine)
    page = opened(server.url)
    expect(page.locator("#training")).to_be_visible()
    cancel_run(engine, number)

    # The stream of the training says that it has ended; no time passes for the page.
    expect(page.locator("#training")).to_have_count(0)
    number = begun(engine)
    after(page, 31)

    expect(page.locator(f"[data-run='/training-runs/{number}/events']")).to_be_visible()
    expect(page.locator("#alarms + #training + #production")).to_be_attached()
