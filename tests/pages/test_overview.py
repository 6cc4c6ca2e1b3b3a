"""GET /: what it shows with a model, with a history only, and with nothing."""

import re
import shutil
import time
from datetime import timedelta

import pytest
from conftest import client_of

from zap.db.engine import write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.serving_counts import CountedMinute, write_minutes
from zap.db.tables import utc_now
from zap.ml.sample import sample_history
from zap.monitoring.answer_counts import BOUNDS, Counts
from zap.pages import overview
from zap.settings import Settings

GOOD, BAD = [-0.3, -0.1], [0.1, 0.3]


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


@pytest.fixture
def empty(_sqlite_at_head, tmp_path):
    """Yield a client of an app on an empty database."""
    url = f"sqlite:///{shutil.copy(_sqlite_at_head, tmp_path / 'zap.sqlite')}"
    settings = Settings(database_url=url, models_dir=tmp_path / "models", follow=False)
    with client_of(settings) as client:
        yield client


def test_it_shows_what_serves_beside_guessing(client):
    page = client.get("/")
    version = client.get("/models/1").json()

    assert page.status_code == 200
    assert f"{version['scores']['log_loss']:.3f}" in page.text
    assert f"{version['scores']['best_baseline_log_loss']:.3f}" in page.text
    assert f"{version['evaluation']['accuracy']:.0%} of {version['test_samples']} test sessions" in page.text
    assert "Better than guessing in its test; not shown on later sessions yet." in page.text
    assert "95% sure: chance does not explain the difference." in page.text
    assert f"{version['trained_samples']:,}" in page.text
    assert "beats guessing" in page.text
    assert "No outcome yet" in page.text
    assert "First steps" not in page.text
    assert "Learned from the synthetic sample" in page.text
    assert '<a href="/" aria-current="page">Overview' in page.text


def test_it_shows_standing_alarms_escaped(client):
    with write_transaction(client.app.state.engine) as connection:
        raise_alarm(connection, "log_slow", "", "A commit took <b>3</b> seconds.", {}, posts=False)

    page = client.get("/").text

    assert "The log is slow" in page
    assert "A commit took &lt;b&gt;3&lt;/b&gt; seconds." in page
    assert "1 alarm" in page


def test_the_first_steps_begin_with_a_history(empty):
    page = empty.get("/").text

    assert "zap import-history sessions.csv" in page
    assert re.search(r"<button[^>]* disabled>Start the training", page)


def test_a_training_can_be_started_from_the_page(empty):
    sample = sample_history(seed=1, drivers=20, months=2)
    upsert_history(empty.app.state.engine, sample.users, sample.vehicles, sample.sessions)
    page = empty.get("/")
    assert re.search(r'<button class="primary">Start the training', page.text)

    reply = empty.post("/pages/first-training", data={"token": token_of(page)}, follow_redirects=False)

    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert 'data-run="/training-runs/1/events"' in empty.get("/").text
    refused = empty.post("/pages/first-training", data={"token": token_of(page)})
    assert refused.status_code == 409
    assert 'href="/pages/trainings/1"' in refused.text
    assert empty.delete("/training-runs/1").status_code == 200
    assert "data-run" not in empty.get("/").text


def test_it_takes_less_than_a_tenth_of_a_second(sqlite_client):
    sqlite_client.get("/")
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        assert sqlite_client.get("/").status_code == 200
        seconds.append(time.perf_counter() - before)

    assert min(seconds) < 0.1


def test_it_shows_what_was_served(client):
    assert "No minute is counted yet" in client.get("/").text
    counts = {"predict": Counts(7, 0, 10**6, {20: 90}), "log": Counts(buckets={25: 90}), "other": Counts(failed=3)}
    begins_at = utc_now().replace(second=0, microsecond=0) - timedelta(minutes=10)
    write_minutes(client.app.state.engine, "a", [CountedMinute(1, begins_at, counts)])

    page = client.get("/").text

    hour = re.search(r'<th scope="row">hour</th>(.*)</tr>', page)[1]
    cells = re.sub(r"<[^>]+>", "|", hour)
    assert re.search(r"✕\|+ 3\|", cells)
    assert re.search(r"\|7\|", cells)
    assert f"|{BOUNDS[20] / 1e6:.1f}|" in cells
    assert f"|{BOUNDS[25] / 1e6:.1f}|" in cells
    assert "at most 90" in page
    assert 'class="sparkline"' in page


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (GOOD, ("Yes: it is better than guessing on later sessions.", "95% sure", "Nothing has to be done.")),
        ([-0.1, 0.1], ("Not shown: on later sessions", "Not sure", "See where it is weak")),
        (BAD, ("No: it is worse than guessing on later sessions.", "95% sure", "go back to an earlier version")),
        (None, ("Better than guessing in its test", "95% sure", "report the sessions that follow")),
    ],
)
def test_it_says_whether_the_model_is_any_good_and_what_to_do_next(sqlite_client, monkeypatch, interval, words):
    guessing = {"accuracy": 0.66, "weighted_f1": 0.65, "log_loss": 0.952}
    scores = {"accuracy": 0.79, "weighted_f1": 0.78, "log_loss": 0.563, "sessions": 1800, "guessing": guessing}
    scores |= {"log_loss_difference": -0.2, "log_loss_difference_interval": interval, "best_baseline": "driver_share"}
    part = {"answers": {"answers": 1800, "label_coverage": 0.9}, "scores": scores}
    report = {"versions": [{"final": part, "provisional": None, "expected": None}]}
    monkeypatch.setattr(overview, "read_quality", lambda *_: report)

    page = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", sqlite_client.get("/").text))

    assert [one for one in words if one not in page] == []
    assert ("79% of 1,800 later sessions. Guessing: 66%." in page) == (interval is not None)


def test_all_standing_alarms_are_counted(sqlite_client):
    with write_transaction(sqlite_client.app.state.engine) as connection:
        for kind in ("harm", "drift", "log_slow", "no_outcomes", "disk_nearly_full"):
            raise_alarm(connection, kind, "", f"The message of {kind}.", {}, posts=False)

    page = sqlite_client.get("/").text

    assert "5 alarms" in page
    assert "2 more alarms" in page
    assert page.count("The message of") == 5
    assert "Look at the alarms" in page


def test_an_empty_form_names_a_driver_of_the_history(sqlite_client):
    page = sqlite_client.get("/pages/predictions/new").text
    example = re.search(r'For example: <a href="([^"]+)">([^<]+)</a>', page)

    filled = sqlite_client.get(example[1]).text

    assert f'value="{example[2]}"' in filled
    assert "from the history" in filled
