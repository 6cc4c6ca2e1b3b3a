"""A reader of Ukrainian finds no English sentence: on pages with data, on refused forms, and on the pages of errors."""

import html
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from conftest import client_of
from filled import fill
from navigation import PAGES, pages_below
from sqlalchemy.exc import OperationalError
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.trials import begin_trial, conclude
from zap.db.runs.training_runs import claim_run, fail_run
from zap.db.versions.promotions import promote_version, roll_back
from zap.errors import TooBusy, TrainingCancelled, TrainingFailed
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.monitoring.drift_notice import Notice, Shift
from zap.monitoring.harm import Harm
from zap.monitoring.trials import Trial
from zap.sentences import say
from zap.settings import Settings

SPACE = "\N{NO-BREAK SPACE}"
UKRAINIAN = {"Accept-Language": "uk"}
# Three words of Latin letters, one after the other.
ENGLISH = re.compile(r"(?<![\w/.'-])[A-Za-z]{2,}(?:\s+[A-Za-z]{2,}){2,}(?![\w/.])")
# A word that only English sentences have.
WORD = re.compile(r"(?<![\w/.{'-])(?:is|are|the|of|not|must|there|has)(?![\w/'-])")
# What is the same in every language.
NAMES = ("DC Fast Charger", "Log loss", "log loss")
SPOKEN = {"title", "alt", "aria-label", "placeholder"}
# What is shown as a program wrote it, and the names of languages.
SILENT = {"script", "style", "code", "pre", "svg", "option", "select"}


class Visible(HTMLParser):
    """Collect the texts that a person reads or hears. Labels of a form are not in `select`."""

    def __init__(self, text):
        super().__init__()
        self.texts, self._silent = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.texts += [value for name, value in attrs if name in SPOKEN and value]
        if tag in SILENT:
            self._silent.append(tag)

    def handle_endtag(self, tag):
        if self._silent and tag == self._silent[-1]:
            self._silent.pop()

    def handle_data(self, data):
        if not self._silent:
            self.texts.append(re.sub(r"\s+", " ", data).strip())


def english(page):
    """Return the texts of a page that have English words."""
    texts = Visible(page).texts
    for name in NAMES:
        texts = [text.replace(name, "") for text in texts]
    return [text for text in texts if ENGLISH.search(text) or WORD.search(text)]


@pytest.fixture(scope="module")
def used(_trained_sqlite, tmp_path_factory):
    """Yield a client of an app whose database has been in use, and has all kinds of alarms, runs and trials."""
    folder = tmp_path_factory.mktemp("used")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    engine = create_engine(settings.database_url)
    fill(engine, alarmed=False)
    live(engine)
    engine.dispose()
    with client_of(settings) as client:
        yield client


def live(engine):
    """Write what zap writes in a year: alarms, failed and refused trainings, trials and promotions."""
    day = datetime.now(UTC).date().isoformat()
    shift = Shift("temperature_c", 0.3, {"-5 to 3": 0.1, "above 3": 0.9}, {"-5 to 3": 0.6, "above 3": 0.4}, 1200, 1.0)
    alarms = {
        "harm": Harm(1, "promise", 7, 1200, 0.31, 0.2, 0.25, 9000.0).in_words(),
        "drift": Notice(1, (shift, shift), 9000.0).in_words(),
        "no_outcomes": say(
            "Since {since} none of {answers:,} answers with a driver has a session; usually {share:.0%} have one.",
            since=day,
            answers=1200,
            share=0.61,
        ),
    }
    with write_transaction(engine) as connection:
        for kind, message in alarms.items():
            raise_alarm(connection, kind, "version 1" if kind in {"harm", "drift"} else "", message, {}, posts=False)
    for options, error in (
        ({"note": "started by zap: alarm: harm of version 1"}, TrainingFailed("the training was ended by MemoryError")),
        ({"tune": True}, TrainingCancelled.by_signal(15)),
    ):
        fail_run(engine, claim_run(engine, "train", options), error)
    better, other = add_copies(engine, 2)
    trial = Trial(done=3, low=0.01, high=0.05, drivers=1200, mean=0.03)
    with write_transaction(engine) as connection:
        first = begin_trial(connection, better, TrialOptions(on_better="promote", why="training run 1"))
        conclude(connection, first, "better", {"message": trial.in_words(), "verdict": "better"}, "")
    promote_version(engine, better, Reason.model_construct(who="trial", why=f"trial {first}: {trial.in_words()}"))
    roll_back(engine, Reason())
    with write_transaction(engine) as connection:
        begin_trial(connection, other, TrialOptions(why="a look"))


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def below(client):
    """Return the pages of the navigation and one page of each kind below them."""
    paths = list(PAGES)
    for path in PAGES:
        paths += pages_below(client.get(path, headers=UKRAINIAN).text)
    return list(dict.fromkeys(paths))


def content(page):
    return page.text.partition("<main")[2].partition("</main>")[0]


def test_no_page_has_an_english_sentence(used, good_request):
    logged = used.post("/predict", json={**good_request, "user_id": "sample-1-00007"}).json()
    paths = [*below(used), f"/pages/predictions/{logged['prediction_id']}", "/pages/models/2", "/pages/models/3"]
    paths += [f"/pages/trainings/{number}" for number in (1, 2, 3)]
    paths += ["/pages/models/2/promote", "/pages/models/2/trial", "/pages/models/compare?first=1&second=2"]
    pages = {path: used.get(path, headers=UKRAINIAN) for path in paths}

    assert {path: page.status_code for path, page in pages.items() if page.status_code != 200} == {}
    assert {path: english(page.text) for path, page in pages.items() if english(page.text)} == {}
    assert len(pages) > 20
    # The figures of each sentence are there, as Ukrainian writes them.
    assert f"водіїв: 1{SPACE}200" in pages["/"].text
    assert "Запити не схожі на рядки навчання" in pages["/"].text
    assert "почав zap: тривога: шкода, версія 1" in pages["/pages/trainings"].text
    assert "Випробувана версія краща" in pages["/pages/models"].text
    assert "Версію 1 навчено" in pages["/pages/trainings/1"].text
    # The JSON routes stay English.
    assert used.get("/alarms", headers=UKRAINIAN).json()["alarms"][0]["message"].startswith("Since ")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/pages/models/99", "версії моделі 99 немає"),
        ("/pages/trainings/x/cancel", "навчання x немає"),
        ("/pages/predictions/999999", "прогнозу 999999 немає"),
        ("/pages/drivers", "назвіть водія"),
        ("/pages/drivers/%01", "жоден водій не може мати ідентифікатор"),
        ("/pages/nothing", "за цією адресою нічого немає"),
        ("/pages/models/1/trial/end", "версія 1 не проходить випробування"),
        ("/pages/models/rollback", "до теперішньої версії жодна не працювала"),
        ("/pages/predictions?version=x&driver=ada", "вкажіть ціле число від 1"),
        ("/pages/predictions?from=x", "вкажіть день"),
        ("/pages/predictions?outcome=x", "вкажіть одне з: right"),
        ("/pages/quality?from=2026-03-02&to=2026-01-01", "не може бути після останнього дня"),
        ("/pages/quality?from=2024-03-02&to=2026-01-01&by=day", "а днів 671"),
        ("/pages/data?feature=x", "zap не стежить за жодною ознакою"),
        ("/pages/models?before=0", "потрібне ціле число від 1"),
        ("/pages/models/compare?first=x", "потрібне значення типу int"),
    ],
)
def test_no_page_of_an_error_has_an_english_sentence(used, path, said):
    page = used.get(path, headers=UKRAINIAN)

    assert page.status_code in {400, 404, 409}
    assert said in page.text
    assert english(page.text) == []


def test_a_refused_search_keeps_what_was_typed(used):
    page = used.get("/pages/predictions?version=перша&driver=ada&outcome=right", headers=UKRAINIAN)

    assert page.status_code == 400
    assert '<form method="get" action="/pages/predictions"' in page.text
    assert re.search(r'name="version" value="перша" aria-invalid="true" aria-describedby="wrong-version"', page.text)
    assert 'name="driver" value="ada"' in page.text
    assert 'name="outcome" value="right"' in page.text
    # A number is read as the pages write it.
    assert used.get(f"/pages/predictions?version=1{SPACE}000", headers=UKRAINIAN).status_code == 200


REFUSED = [
    (
        "/pages/trainings",
        {"test_share": "0,9", "num_leaves": "1,5", "n_estimators": f"20{SPACE}000", "learning_rate": "швидко"}
        | {"history_from": "учора", "promote": "x", "nested": "on", "tune_seed": "5", "note": "a" * 501},
    ),
    ("/pages/models/2/trial", {"weeks": "60", "epsilon": "0,9", "on_better": "x", "who": "a" * 501, "why": "\1"}),
    ("/pages/models/2/promote", {"serving": "1", "target": "2", "who": "a" * 501}),
    ("/pages/models/3/trial/end", {"why": "a" * 501}),
    (
        "/pages/predictions/new",
        {"user_id": "нема", "state_of_charge_start": "150,5", "distance_driven_km": "далеко", "temperature_c": "-100"}
        | {"charging_start_time": "x", "vehicle_id": "y", "battery_capacity_kwh": "0", "user_type": "Космонавт"},
    ),
]


@pytest.mark.parametrize(("path", "form"), REFUSED, ids=[path for path, _ in REFUSED])
def test_a_refused_form_has_no_english_sentence_and_keeps_what_was_typed(used, path, form):
    token = token_of(used.get("/pages/trainings", headers=UKRAINIAN))

    page = used.post(path, data={"token": token, **form}, headers=UKRAINIAN)

    assert page.status_code == 422
    assert english(page.text) == []
    shown = html.unescape(content(page))
    for name, text in form.items():
        is_choice = name in {"promote", "nested", "on_better", "user_type"}
        assert is_choice or f'name="{name}"' not in shown or f'value="{text}"' in shown, name


def test_numbers_of_a_form_are_read_as_the_page_shows_them(used):
    page = used.get("/pages/predictions/new?user_id=sample-1-00007", headers=UKRAINIAN)
    shown = dict(re.findall(r'name="(\w+)" inputmode="decimal" value="([^"]*)"', page.text))
    form = {name: html.unescape(value) for name, value in shown.items()}
    assert "," in form["state_of_charge_start"] + form["temperature_c"]
    form |= {"token": token_of(page), "user_id": "sample-1-00007", "distance_driven_km": f"1{SPACE}234,5"}

    reply = used.post("/pages/predictions/new", data=form, headers=UKRAINIAN, follow_redirects=False)

    assert reply.status_code == 303
    stored = used.get(reply.headers["Location"].replace("/pages", "")).json()
    assert stored["request"]["distance_driven_km"] == 1234.5
    assert stored["request"]["temperature_c"] == float(form["temperature_c"].replace(",", ".").replace("−", "-"))


@pytest.mark.parametrize(
    ("headers", "body", "status", "said"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415, "надішліть форму із заголовком"),
        ({}, b"a=1&" * 40_000, 413, "вміст більший, ніж приймає ця адреса"),
        ({}, b"a=1&" * 300, 422, "вона має більше полів, ніж 200"),
        ({}, b"a=1", 403, "сторінка старіша за вхід"),
        ({"Content-Encoding": "gzip"}, b"a", 415, "вміст стиснуто (gzip)"),
        ({"Origin": "http://elsewhere.example"}, b"a", 403, "це надіслала сторінка з http://elsewhere.example"),
    ],
)
def test_a_form_that_is_no_form_of_zap_is_refused_in_ukrainian(used, headers, body, status, said):
    sent = {"Content-Type": "application/x-www-form-urlencoded", **UKRAINIAN, **headers}

    page = used.post("/pages/trainings", content=body, headers=sent)

    assert page.status_code == status
    assert said in page.text
    assert english(page.text) == []


def test_a_database_that_is_away_and_a_busy_server_are_told_in_ukrainian(used, monkeypatch):
    def away(*_):
        raise OperationalError("SELECT", None, Exception("gone"))

    def busy(*_):
        raise TooBusy(say("{n} callers already wait for explanations; ask again later", n=100))

    for raised, said in ((away, "база даних не відповідає"), (busy, "на пояснення вже чекають запити (100)")):
        monkeypatch.setattr("zap.pages.models.list_versions", raised)

        page = used.get("/pages/models", headers=UKRAINIAN)

        assert page.status_code == 503
        assert said in page.text
        assert english(page.text) == []
