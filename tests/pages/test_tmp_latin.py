"""A reader of Ukrainian finds no English sentence: on pages with data, on refused forms, and on the pages of errors."""

import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from conftest import client_of
from filled import fill
from navigation import PAGES, pages_below
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.trials import begin_trial, conclude
from zap.db.runs.training_runs import claim_run, fail_run
from zap.db.versions.promotions import promote_version, roll_back
from zap.errors import TrainingCancelled, TrainingFailed
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.monitoring.drift_notice import Notice, Shift
from zap.monitoring.harm import Harm
from zap.monitoring.trials import Trial
from zap.sentences import say
from zap.settings import Settings

UKRAINIAN = {"Accept-Language": "uk"}
# Three words of Latin letters, one after the other.
ENGLISH = re.compile(
    r"(?<![\w/.'-])[A-Za-z]{2,}[,;:]?(?:\s+[A-Za-z]{2,}[,;:]?){2,}(?![\w/.])|(?<![\w/.-])(?:is|the|of|not)\b"
)
# What is the same in every language.
NAMES = ("DC Fast Charger", "Log loss", "log loss")
SPOKEN = {"title", "alt", "aria-label", "placeholder"}
# What is shown as a program wrote it, and the names of languages.
SILENT = {"script", "style", "code", "pre", "svg", "option", "select"}


class Visible(HTMLParser):
    """Collect the texts that a person reads or hears. Labels of a form are not in `select`."""

    def __init__(self, html):
        super().__init__()
        self.texts, self._silent = [], []
        self.feed(html)

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


def english(html):
    """Return the texts of a page that have English words."""
    texts = Visible(html).texts
    for name in NAMES:
        texts = [text.replace(name, "") for text in texts]
    return [text for text in texts if ENGLISH.search(text)]


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


def below(client):
    """Return the pages of the navigation and one page of each kind below them."""
    paths = list(PAGES)
    for path in PAGES:
        paths += pages_below(client.get(path, headers=UKRAINIAN).text)
    return list(dict.fromkeys(paths))


def test_no_page_has_an_english_sentence(used, good_request):
    driver = "sample-1-00007"
    logged = used.post("/predict", json={**good_request, "user_id": driver}).json()
    paths = below(used) + [f"/pages/predictions/{logged['prediction_id']}", "/pages/models/2", "/pages/models/3"]
    paths += [f"/pages/trainings/{number}" for number in (1, 2, 3)]
    paths += ["/pages/models/2/promote", "/pages/models/rollback", "/pages/models/2/trial", "/pages/models/3/trial/end"]
    paths += ["/pages/models/compare?first=1&second=2", f"/pages/predictions/new?user_id={driver}"]

    seen = set()
    for path in paths:
        r = used.get(path, headers=UKRAINIAN)
        print("PAGE", path, r.status_code)
        for t in Visible(r.text).texts:
            if re.search(r"[A-Za-z]{2,}", t) and t not in seen:
                seen.add(t)
                print("LATIN", path, "|", t[:300])
    for t in re.findall(r"<option[^>]*>([^<]*)", "".join(used.get(p, headers=UKRAINIAN).text for p in paths)):
        if re.search(r"[A-Za-z]{2,}", t) and t not in seen:
            seen.add(t)
            print("OPTION", t)
    for t in re.findall(r"<code>([^<]*)", "".join(used.get(p, headers=UKRAINIAN).text for p in paths)):
        if t not in seen:
            seen.add(t)
            print("CODE", t)
    for x in re.findall(r'data-plot="([^"]*)"', "".join(used.get(p, headers=UKRAINIAN).text for p in paths)):
        for t in re.findall(r"&#34;([^&]*[A-Za-z]{3,}[^&]*)&#34;", x):
            if t not in seen:
                seen.add(t)
                print("PLOT", t)
    assert 0
