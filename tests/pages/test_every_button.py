"""Every button of the pages in a real browser does what it says: with and without a key, with one worker and with two.

A control that is added to a template has to be pressed here.
"""

import csv
import shlex
from datetime import date
from pathlib import Path

import httpx
import pytest
from controls import never_pressed
from filled import fill
from monitored import count_quality, monitor
from playwright.sync_api import expect
from pydantic import SecretStr
from servers import Server, until
from trialled import add_copies
from visitor import Visitor
from watched_page import window

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.db.runs.training_runs import cancel_run, claim_run
from zap.db.versions.tunings import add_tuning
from zap.settings import Settings

KEY = "correct horse battery"
# What the server is told beside its database.
SERVED = {"sqlite": {}, "postgresql": {"workers": 2, "api_key": SecretStr(KEY)}}
DRIVER, ERASED = "sample-1-00003", "sample-1-00007"
# Controls that another test presses, because a server in order does not show them.
ELSEWHERE = {
    "Try again -> *": "test_pages.py::test_a_database_that_fails_is_a_page_without_its_reason",
    "Show again -> /pages/data/history": "test_data.py::test_the_history_has_the_figures_of_the_sessions",
    "Training # -> /pages/trainings/#": "test_trainings.py::test_a_training_is_started_followed_and_cancelled",
    "Version # -> /pages/models/#": "test_models.py::test_a_trial_begins_and_ends_after_questions",
    "Look further back -> *": "test_predictions.py::test_a_search_that_ends_early_goes_on_where_it_ended",
}

# Controls that a server without a key does not show.
WITH_KEYS = {
    *("POST /pages/login", "POST /pages/logout", "Log in -> /pages/login"),
    *("POST /pages/keys", "POST /pages/keys/#/rotate", "POST /pages/keys/#/revoke"),
    *("Rotate -> /pages/keys/#/rotate", "Revoke -> /pages/keys/#/revoke", "I have copied it -> /pages/keys"),
    *("Back -> /pages/keys", "Change nothing -> /pages/keys"),
}


@pytest.fixture
def settings(database_url, tmp_path):
    """Return the settings of a server on an empty database: on PostgreSQL with a key and two workers."""
    engine = create_engine(database_url)
    with write_transaction(engine) as connection:
        # Few trees, so that trainings take less time.
        add_tuning(connection, {"n_estimators": 5}, None)
    served = SERVED[engine.dialect.name]
    engine.dispose()
    return Settings(database_url=database_url, models_dir=tmp_path / "models", follow=False, **served)


@pytest.fixture
def visitor(browser, settings):
    """Yield a person at a new server."""
    server = Server(settings)
    engine = create_engine(settings.database_url)
    key = settings.api_key and settings.api_key.get_secret_value()
    with window(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        visitor = Visitor(page, server.wait().url, key)
        visitor.engine = engine
        yield visitor
    engine.dispose()
    server.close()


# With a login and two workers there is more that can go wrong.
@pytest.mark.parametrize("database_url", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_every_button_does_what_it_says(visitor, settings, zap_command):
    log_in(visitor)
    load_the_sample(visitor, settings, zap_command)
    train_first(visitor)
    fill(visitor.engine, weeks=1, sessions=60, alarmed=False)
    monitor(visitor.engine)
    count_quality(visitor.engine)
    ask(visitor)
    search(visitor)
    train_with_options(visitor)
    cancel_a_training(visitor)
    compare(visitor)
    try_a_version(visitor)
    promote_and_roll_back(visitor)
    look_at_the_audit(visitor)
    give_out_keys(visitor)
    erase_a_driver(visitor)
    filter_and_save(visitor)
    choose(visitor)
    search_the_manual(visitor)
    log_out(visitor)

    assert visitor.faults == []
    not_there = set() if visitor.key else WITH_KEYS
    assert never_pressed(visitor.pressed) - not_there - set(ELSEWHERE) == set()


def test_what_is_pressed_elsewhere_is_pressed_there():
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in Path(__file__).with_name(file).read_text(encoding="utf-8"), place


def log_in(visitor):
    """With a key, log in with a wrong key and with the right one; each worker knows the login."""
    page = visitor.page
    visitor.open("/pages/trainings")
    if not visitor.key:
        visitor.heading("Trainings")
        return
    for key, status in (("wrong", 403), (visitor.key, None)):
        page.get_by_label("Key", exact=True).fill(key)
        visitor.press("Log in", refused=status)
    visitor.heading("Trainings")
    for _ in range(4):
        assert page.request.get(f"{visitor.url}/pages/models", max_redirects=0).status == 200
    # A link in a chat leads to its page, though the browser sends no cookie with it.
    page.goto("about:blank")
    page.set_content(f'<a href="{visitor.url}/pages/quality?by=day">look</a>')
    page.get_by_text("look").click()
    visitor.heading("Quality")
    assert page.url == f"{visitor.url}/pages/quality?by=day"


def load_the_sample(visitor, settings, zap_command):
    """Copy the command that loads the sample, and run it."""
    page = visitor.page
    visitor.open("/pages/trainings")
    visitor.open("/pages/data")
    visitor.open("/")
    expect(page.get_by_role("button", name="Start the training")).to_be_disabled()
    copy = page.locator(".copyable", has_text="sample-history").get_by_role("button")
    copy.click()
    expect(copy).to_have_text("✓")
    visitor.pressed.add("copy")
    program, *command = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert program == "zap"
    # A smaller sample.
    done = zap_command(*command, "--seed", 1, "--drivers", 30, "--months", 3, "--yes", settings=settings)
    assert done.returncode == 0, done.stderr


def train_first(visitor):
    """Start the first training on the overview, which shows its end without a reload by hand."""
    visitor.open("/")
    visitor.press("Start the training")
    expect(visitor.page.get_by_role("link", name="Version 1")).to_be_visible(timeout=60_000)
    assert visitor.json("/models")["models"][0]["status"] == "production"
    assert visitor.json("/training-runs/1")["options"] == {}
    visitor.look()


def ask(visitor):
    """Fill in the form from a known driver, and ask."""
    page = visitor.page
    visitor.open("/pages/predictions/new")
    page.get_by_label("Driver", exact=True).first.fill(DRIVER)
    visitor.press("Fill in")
    page.get_by_label("Charge left").fill("15")
    visitor.press("Ask and log")

    number = int(page.url.rpartition("/")[2])
    visitor.heading(f"Prediction {number}")
    asked = visitor.json(f"/predictions/{number}")
    assert (asked["request"]["state_of_charge_start"], asked["request"]["user_id"]) == (15, DRIVER)
    expect(page.locator(".waterfall .total")).to_be_visible()
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("async (url) => await navigator.clipboard.readText() === url", arg=page.url)
    name, table = visitor.saved("CSV", "drawn")
    assert name == f"prediction-{number}.csv"
    assert table.startswith(b"Part,")
    assert all(float(row[1]) for row in list(csv.reader(table.decode().splitlines()))[1:])
    name, drawing = visitor.saved("SVG", "drawn")
    assert name == f"prediction-{number}.svg"
    assert drawing.startswith(b"<svg")
    name, drawing = visitor.saved("PNG", "drawn")
    assert name == f"prediction-{number}.png"
    assert drawing.startswith(b"\x89PNG")
    page.reload()
    visitor.heading(f"Prediction {number}")


def search(visitor):
    """Search the answers; a search is an address. Look at older answers and at newer ones."""
    page = visitor.page
    visitor.open("/pages/predictions")
    page.get_by_label("What happened").select_option("wrong")
    visitor.press("Search")
    assert page.url == f"{visitor.url}/pages/predictions?outcome=wrong"
    listed = visitor.json("/predictions", outcome="matched", limit=100)["predictions"]
    wrong = [one["prediction_id"] for one in listed if one["predicted_class"] != one["actual_class"]]
    assert numbers_on(page) == wrong[:25] != []
    page.go_back()

    newest = numbers_on(page)
    page.get_by_role("link", name="Older").click()
    visitor.look()
    assert max(numbers_on(page)) < min(newest)
    page.get_by_role("link", name="Newer").click()
    assert numbers_on(page) == newest
    page.get_by_label("Prediction id").fill(str(newest[2]))
    visitor.press("Search")
    visitor.heading(f"Prediction {newest[2]}")
    visitor.open(f"/pages/drivers/{DRIVER}")
    page.get_by_label("Another driver").fill("sample-1-00004")
    visitor.press("Show")
    assert page.url == f"{visitor.url}/pages/drivers/sample-1-00004"


def numbers_on(page):
    """Return the numbers of the predictions in the list."""
    return [int(one) for one in page.locator(".answers .at-id").all_inner_texts()]


def train_with_options(visitor):
    """Start a training with options. A wrong option starts none."""
    page = visitor.page
    visitor.open("/pages/trainings")
    page.get_by_label("Note").fill("fewer trees")
    page.get_by_label("When it is finished, the version").select_option("never")
    page.get_by_text("More options").click()
    page.get_by_label("n_estimators").fill("-3")
    visitor.press("Start the training", refused=422)
    expect(page.get_by_text("No training has started.")).to_be_visible()
    page.get_by_label("n_estimators").fill("3")
    visitor.press("Start the training")

    visitor.heading("Training 2")
    expect(page.locator("main .head")).to_contain_text("finished", timeout=60_000)
    run = visitor.json("/training-runs/2")
    assert run["options"] == {"note": "fewer trees", "promote": "never", "hyper_parameters": {"n_estimators": 3}}
    assert [one["status"] for one in visitor.json("/models")["models"]] == ["candidate", "production"]
    visitor.look()


def cancel_a_training(visitor):
    """Start a long training, and cancel it after a look at the question."""
    page = visitor.page
    visitor.open("/pages/trainings")
    page.get_by_text("More options").click()
    page.get_by_label("n_estimators").fill("10000")
    page.get_by_label("num_leaves").fill("200")
    visitor.press("Start the training")
    expect(page.locator("main .head")).to_contain_text("running")
    expect(page.locator("[data-phase]")).to_have_text("fitting", timeout=60_000)
    visitor.open("/pages/trainings")
    page.get_by_role("link", name="Cancel").click()
    visitor.look()
    page.get_by_role("link", name="Let it run").click()
    assert visitor.json("/training-runs/3")["status"] == "running"
    page.get_by_role("link", name="Cancel").click()
    visitor.press("Cancel the training")

    expect(page.locator("main .head")).to_contain_text("cancelled")
    assert visitor.json("/training-runs/3")["status"] == "cancelled"
    visitor.open("/pages/trainings/3/cancel")


def compare(visitor):
    """Compare two versions, and look at older versions and trainings."""
    page = visitor.page
    visitor.open("/pages/models")
    page.get_by_label("beside version").select_option("2")
    visitor.press("Compare")
    assert page.url.endswith("/pages/models/compare?first=1&second=2")
    visitor.heading("Two versions beside each other")

    add_copies(visitor.engine, 20)
    for _ in range(14):
        cancel_run(visitor.engine, claim_run(visitor.engine, "train", {}))
    for path in ("/pages/models", "/pages/trainings"):
        visitor.open(path)
        page.get_by_role("link", name="Older").click()
        visitor.look()
        expect(page.locator("main td.number").first.get_by_role("link")).to_have_text("2")


def try_a_version(visitor):
    """Begin a trial, and end it."""
    page = visitor.page
    visitor.open("/pages/models/2/trial")
    page.get_by_label("Longest time, weeks").fill("5")
    page.get_by_label("If it is better").select_option("promote")
    page.get_by_label("Who decides this").fill("Taras")
    visitor.press("Begin the trial")
    visitor.heading("Version 2")
    trial = visitor.json("/trials/1")
    assert (trial["model_version"], trial["weeks"], trial["on_better"], trial["who"]) == (2, 5, "promote", "Taras")
    assert trial["status"] == "running"

    page.get_by_role("link", name="End the trial").click()
    visitor.look()
    page.get_by_label("Why").fill("enough")
    visitor.press("End the trial")
    assert visitor.json("/trials/1")["status"] != "running"


def promote_and_roll_back(visitor):
    """Put a version into production and back; all workers serve it."""
    page = visitor.page
    visitor.open("/pages/models/2/promote")
    page.get_by_label("Who decides this").fill("Olena")
    visitor.press("Promote version 2")
    visitor.heading("Version 2")
    expect(page.get_by_role("cell", name="Olena")).to_be_visible()
    assert visitor.json("/models/2")["status"] == "production"
    until(lambda: versions_that_answer(visitor) == {2}, 10)
    visitor.open("/pages/models/2/promote")

    acknowledge_harm(visitor)
    visitor.press("Roll back to version 1")
    visitor.heading("Version 1")
    until(lambda: versions_that_answer(visitor) == {1}, 10)
    with write_transaction(visitor.engine) as connection:
        raise_alarm(connection, "harm", "version 1", "Version 1 is worse than promised.", {}, posts=False)
    visitor.open("/pages/data")


def look_at_the_audit(visitor):
    """Search the changes; what was just done is there."""
    page = visitor.page
    visitor.open("/pages/audit")
    page.get_by_label("What was done").select_option("version.rollback")
    visitor.press("Search")
    assert page.url == f"{visitor.url}/pages/audit?action=version.rollback"
    found = visitor.json("/audit", action="version.rollback", limit=100)["audit"]
    assert page.locator("tbody tr").count() == len(found) > 0
    page.get_by_role("link", name="Show all").click()
    visitor.look()
    assert page.url == f"{visitor.url}/pages/audit"
    assert page.locator("tbody tr").count() > len(found)


def give_out_keys(visitor):
    """Make a key, copy it, rotate it and revoke it; all workers know each change. Without a key, see how to begin."""
    page = visitor.page
    visitor.open("/pages/keys")
    if not visitor.key:
        expect(page.get_by_text("zap keys create NAME --scope admin")).to_be_visible()
        return
    page.get_by_label("Name").fill("app")
    visitor.press("Make the key", refused=422)
    page.get_by_role("checkbox", name="read").check()
    visitor.press("Make the key")
    page.locator(".copyable").get_by_role("button").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('zap_')")
    first = page.evaluate("navigator.clipboard.readText()")
    visitor.look()
    page.get_by_role("link", name="I have copied it").click()
    visitor.look()
    until(lambda: statuses_of(visitor, first) == {200}, 10)
    page.get_by_role("link", name="Rotate the key app").click()
    visitor.look()
    visitor.press("Make the new key")
    second = page.locator(".copyable code").inner_text()
    assert {one["status"] for one in visitor.json("/keys")["keys"]} == {"active", "replaced"}
    visitor.open("/pages/keys")
    page.get_by_role("link", name="Revoke the key app").first.click()
    visitor.press("Revoke the key")
    visitor.heading("Keys")
    until(lambda: statuses_of(visitor, second) == {401}, 10)
    assert statuses_of(visitor, first) == {200}
    visitor.open(f"/pages/keys/{second.split('_')[1]}/revoke")


def statuses_of(visitor, key):
    """Return the statuses of some replies to a key. With several workers, any of them answers."""
    return {httpx.get(f"{visitor.url}/models", headers={"X-API-Key": key}).status_code for _ in range(8)}


def erase_a_driver(visitor):
    """Erase a driver after the question; the page says what was erased."""
    visitor.open(f"/pages/drivers/{ERASED}")
    visitor.page.get_by_role("link", name="Erase this driver").click()
    visitor.look()
    visitor.heading(f"Erase driver {ERASED}?")
    visitor.press("Erase this driver")
    visitor.heading(f"Driver {ERASED} is erased")
    assert visitor.json("/audit", action="driver.erase", limit=10)["audit"]


def acknowledge_harm(visitor):
    """See the alarm of harm, say who has seen it, and find the roll back; look at older alarms."""
    page = visitor.page
    with write_transaction(visitor.engine) as connection:
        for number in range(21):
            raise_alarm(connection, "log_slow", str(number), "The log was slow.", {}, posts=False)
            resolve_alarm(connection, "log_slow", str(number), posts=False)
        raise_alarm(connection, "harm", "version 2", "Version 2 is worse than promised.", {}, posts=False)
    visitor.open("/")
    assert page.title() == "(2) Overview · zap"
    expect(page.locator("#verdict .verdict")).to_contain_text("No: lately its answers are worse than they should be.")
    page.get_by_role("link", name="All alarms").click()
    visitor.look()
    harm = page.locator("section", has=page.get_by_role("heading", name="Harm"))
    harm.get_by_label("Who has seen it").fill("Iryna")
    harm.get_by_role("button").click()
    expect(harm).to_contain_text("acknowledged by Iryna")
    visitor.pressed.add("POST /pages/alarms/#/acknowledge")
    assert visitor.json("/alarms")["alarms"][0]["acknowledged_by"] == "Iryna"
    page.get_by_role("link", name="Older").click()
    visitor.look()

    visitor.open("/")
    page.get_by_role("link", name="roll back to version 1").click()
    visitor.look()


def versions_that_answer(visitor):
    asked = {"user_id": DRIVER, "state_of_charge_start": 20, "distance_driven_km": 90, "temperature_c": 4}
    return {visitor.ask(**asked)["model_version"] for _ in range(8)}


def filter_and_save(visitor):
    """Set the filters of the other pages, and save what a plot shows."""
    page = visitor.page
    visitor.open("/pages/quality")
    page.locator("select[name=by]").select_option("week")
    visitor.press("Show")
    assert page.url.endswith("by=week")
    assert page.locator("select[name=by]").input_value() == "week"
    visitor.open("/pages/data")
    page.get_by_label("Feature").select_option("temperature_c")
    visitor.press("Show")
    assert page.url.endswith("/pages/data?feature=temperature_c")
    visitor.open("/pages/data/fields")
    field = page.locator("select[name=field]")
    field.select_option("temperature_c")
    visitor.press("Show")
    assert "field=temperature_c" in page.url
    assert field.input_value() == "temperature_c"
    name, table = visitor.saved("CSV", "plot")
    assert name.endswith(".csv")
    assert len(table.splitlines()) > 20
    heads, *days = csv.reader(table.decode().splitlines())
    # Each column of numbers says its unit, and each number is one that programs read.
    assert all(one.endswith(": share (%)") for one in heads[1:]), heads
    assert all(date.fromisoformat(day) and [float(one) for one in numbers if one] for day, *numbers in days)
    name, picture = visitor.saved("PNG", "plot")
    assert name.endswith(".png")
    assert picture.startswith(b"\x89PNG")
    # The first visitor of the history waits until it is counted, and the page shows it then.
    page.goto(f"{visitor.url}/pages/data/history")
    expect(page.locator("figure.plot canvas").first).to_be_visible(timeout=20_000)
    page.goto(f"{visitor.url}/pages/nothing")
    page.problems.clear()
    visitor.look()


def choose(visitor):
    """Choose the language and the colours, which the next page has too."""
    page = visitor.page
    visitor.open("/pages/models")
    page.get_by_label("Language").select_option("uk")
    visitor.heading("Моделі")
    page.get_by_label("Кольори").select_option("dark")
    expect(page.locator("html[data-scheme=dark]")).to_be_attached()
    page.goto(f"{visitor.url}/pages/trainings")
    expect(page.locator("html[lang=uk][data-scheme=dark]")).to_be_attached()
    page.get_by_label("Мова").select_option("en")
    visitor.heading("Trainings")
    visitor.pressed.add("POST /pages/choices")


def search_the_manual(visitor):
    page = visitor.page
    visitor.open("/manual")
    page.get_by_role("combobox", name="Search the manual").fill("pgbouncer")
    page.locator("#found [role=option]").first.click()
    page.wait_for_url("**/manual/operating#poolers")
    visitor.pressed.add("#search")


def log_out(visitor):
    """With a key, log out: the pages are closed, also a form that was opened before."""
    page = visitor.page
    visitor.open("/pages/predictions/new")
    if not visitor.key:
        return
    older = page.context.new_page()
    older.goto(f"{visitor.url}/pages/trainings")
    visitor.press("Log out", within="footer")
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    visitor.open("/")
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    older.get_by_label("Note").fill("typed for minutes")
    older.get_by_label("Search for hyper-parameters").check()
    older.get_by_role("button", name="Start the training").click()
    expect(older.get_by_role("heading", level=1)).to_have_text("Your login has ended")
    older.get_by_role("link", name="Log in").click()
    expect(older.get_by_label("Key", exact=True)).to_be_visible()
    visitor.pressed.add("Log in -> /pages/login")
    older.get_by_label("Key", exact=True).fill(visitor.key)
    older.get_by_role("button", name="Log in").click()
    # What was typed is there again, and is not sent by itself.
    expect(older.get_by_label("Note")).to_have_value("typed for minutes")
    expect(older.get_by_label("Search for hyper-parameters")).to_be_checked()
    older.reload()
    expect(older.get_by_label("Note")).to_have_value("")
    assert visitor.json("/training-runs", limit=1)["training_runs"][0]["run_id"] == 17
