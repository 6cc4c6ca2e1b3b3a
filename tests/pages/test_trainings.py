"""The pages about trainings: the form with its options, the training that runs, and the past ones."""

import re
from datetime import UTC, datetime

import pytest

from zap.db.engine import write_transaction
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import claim_run, fail_run, finish_run, list_runs
from zap.errors import TrainingFailed
from zap.formats.training_options import TrainingOptions
from zap.pages.trainings import lasted, options_of


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def send(client, path, **fields):
    form = {"token": token_of(client.get("/pages/models")), **fields}
    return client.post(path, data=form, follow_redirects=False)


def failed(engine, detail, options=None):
    number = claim_run(engine, "train", options or {})
    assert fail_run(engine, number, TrainingFailed(detail))
    return number


def test_past_trainings_say_what_they_gave(client):
    engine = client.app.state.engine
    failed(engine, "no <b>sessions</b> here", {"note": "an <i>idea</i>"})
    search = claim_run(engine, "tune", {})
    with write_transaction(engine) as connection:
        finish_run(connection, search, {"tuning": 7, "log_loss": 0.5, "default_log_loss": 0.6})

    page = client.get("/pages/trainings").text

    assert re.search(r'version <a href="/pages/models/1">1</a>\s*<span class="badge good">', page)
    assert "no &lt;b&gt;sessions&lt;/b&gt; here" in page
    assert "an &lt;i&gt;idea&lt;/i&gt;" in page
    assert "search 7" in page
    assert "lasted" in page
    newest = list_runs(engine, 3, with_results=True)
    assert [(one["model_version"], one["tuning"], one["verdict"]) for one in newest] == [
        (None, 7, None),
        (None, None, None),
        (1, None, "better"),
    ]
    assert "Search 7" in client.get("/pages/trainings/3").text
    assert "no &lt;b&gt;sessions&lt;/b&gt; here" in client.get("/pages/trainings/2").text


def test_older_trainings_are_on_other_pages(sqlite_client):
    for _ in range(16):
        failed(sqlite_client.app.state.engine, "x")
    first = sqlite_client.get("/pages/trainings").text
    assert 'href="/pages/trainings/17"' in first
    assert 'href="/pages/trainings/2"' not in first

    (older,) = re.findall(r'href="(/pages/trainings\?before=\d+)"', first)

    second = sqlite_client.get(older).text
    assert re.findall(r'<td class="number"><a href="/pages/trainings/(\d+)">', second) == ["2", "1"]
    assert "No older training" in sqlite_client.get("/pages/trainings?before=1").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pages/trainings?before=0", 400),
        ("/pages/trainings/99", 404),
        ("/pages/trainings/99999999999999999999", 404),
        ("/pages/trainings/99/cancel", 404),
    ],
)
def test_a_wrong_address_is_a_page_that_says_what_is_wrong(shared_client, path, status):
    page = shared_client.get(path)

    assert page.status_code == status
    assert "request id" in page.text


def test_a_training_is_shown_in_full(client):
    page = client.get("/pages/trainings/1").text
    report = client.get("/training-runs/1").json()["report"]

    assert f"{report['log_loss']:.3f}" in page
    assert f"guessing: {report['baselines'][report['best_baseline']]['log_loss']:.3f}" in page
    assert report["promotion"]["reason"] in page
    for phase in report["phases"]:
        assert f"{report['phases'][phase]:.1f}</td>" in page
    assert 'data-name="training-log-loss"' in page
    assert "data-run" not in page
    assert "already ended" in client.get("/pages/trainings/1/cancel").text


def test_the_plot_of_a_training_has_at_most_500_points_and_the_last_one(sqlite_client):
    engine = sqlite_client.app.state.engine
    number = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        add_events(connection, number, [{"phase": "tune", "done": 1, "total": 2, "log_loss": 9.0}])
        rounds = range(1, 1234)
        add_events(
            connection, number, [{"phase": "fit", "done": one, "total": 2000, "log_loss": 1 / one} for one in rounds]
        )
    fail_run(engine, number, TrainingFailed("x"))

    page = sqlite_client.get(f"/pages/trainings/{number}").text

    (x,) = re.findall(r"&#34;x&#34;:\[([\d,]+)\]", page)
    assert len(x.split(",")) <= 500
    assert x.endswith(",1233")


def test_wrong_options_are_said_beside_their_fields(sqlite_client):
    wrong = {
        "test_share": "0.9",
        "history_from": "yesterday",
        "num_leaves": "1",
        "learning_rate": "fast",
        "n_estimators": "9" * 60,
        "nested": "on",
        "estimator": "oracle",
        "note": "a note to keep",
    }
    reply = send(sqlite_client, "/pages/trainings", **wrong)

    assert reply.status_code == 422
    for name in set(wrong) - {"note"}:
        assert re.search(rf'id="wrong-{name}"[^>]*>[^<]+', reply.text), name
    assert 'value="a note to keep"' in reply.text
    assert 'value="0.9"' in reply.text
    assert re.search(r'name="nested" checked aria-invalid="true"', reply.text)
    assert [one["run_id"] for one in sqlite_client.get("/training-runs").json()["training_runs"]] == [1]


def test_the_options_of_the_form_are_those_of_the_route():
    form = {
        "history_from": "2026-01-01",
        "history_to": "",
        "test_share": "0,2",
        "estimator": "lightgbm",
        "promote": "never",
        "note": " a note ",
        "windows": "on",
        "tune": "on",
        "tune_seed": "7",
        "num_leaves": "15",
        "learning_rate": "0.1",
        "left_out.temperature": "on",
        "left_out.nothing": "on",
        "token": "0",
    }

    options = TrainingOptions.read(options_of(form, "en"), lambda moment: moment)

    assert options.as_dict() == {
        "history_from": "2026-01-01T00:00:00",
        "test_share": 0.2,
        "estimator": "lightgbm",
        "hyper_parameters": {"num_leaves": 15, "learning_rate": 0.1, "left_out": ["temperature"]},
        "tune": True,
        "windows": True,
        "tune_seed": 7,
        "promote": "never",
        "note": "a note",
    }
    assert TrainingOptions.read(options_of({}, "en")) == TrainingOptions()


def test_a_training_is_started_followed_and_cancelled(sqlite_client):
    page = sqlite_client.get("/pages/trainings")
    assert 'name="num_leaves" inputmode="decimal" value="" placeholder="40"' in page.text

    reply = send(sqlite_client, "/pages/trainings", promote="never", n_estimators="9", note="from the page")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/trainings/2")
    run = sqlite_client.get("/training-runs/2").json()
    assert run["options"] == {"promote": "never", "hyper_parameters": {"n_estimators": 9}, "note": "from the page"}
    for path in ("/pages/trainings", "/pages/trainings/2"):
        assert 'data-run="/training-runs/2/events"' in sqlite_client.get(path).text
    refused = send(sqlite_client, "/pages/trainings")
    assert refused.status_code == 409
    assert 'href="/pages/trainings/2"' in refused.text
    assert "The training ends within two seconds" in sqlite_client.get("/pages/trainings/2/cancel").text

    reply = send(sqlite_client, "/pages/trainings/2/cancel")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/trainings/2")
    page = sqlite_client.get("/pages/trainings/2").text
    assert "cancelled" in page
    assert "data-run" not in page
    refused = send(sqlite_client, "/pages/trainings/2/cancel")
    assert refused.status_code == 409
    assert 'href="/pages/trainings/2"' in refused.text


def test_without_a_history_nothing_can_be_started(untrained_client):
    page = untrained_client.get("/pages/trainings")

    assert page.status_code == 200
    assert "There is no history to learn from" in page.text
    assert re.search(r'<button class="primary" disabled>Start the training', page.text)
    assert "No training yet" in page.text


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 1, tzinfo=UTC), 60),  # noqa: DTZ001 - as another program wrote it
        (datetime(2026, 1, 1, tzinfo=UTC), None, None),
        (None, datetime(2026, 1, 1, tzinfo=UTC), None),
    ],
)
def test_how_long_a_run_lasted_is_known_with_any_stored_times(begin, end, seconds):
    assert lasted({"started_at": begin, "finished_at": end}) == seconds
