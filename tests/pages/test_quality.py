"""GET /pages/quality: the scores beside guessing, over time and in detail, with final and provisional days apart."""

import re
import shutil
from datetime import datetime, timedelta

import msgspec
import pytest
from conftest import client_of
from outcomes import applied, asked_about, last_sessions

from zap.settings import Settings

SPRING = {"from": "2024-04-01", "to": "2024-05-31"}


def text_of(reply):
    """Return what a page says, without its marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", reply.text))


def plot_of(reply, name):
    """Return the data of a plot of a page."""
    data = re.search(rf'data-plot="([^"]*)" data-name="{name}"', reply.text)[1]
    return msgspec.json.decode(data.replace("&#34;", '"').replace("&#39;", "'"))


@pytest.fixture(scope="module")
def answered(_trained_sqlite, tmp_path_factory):
    """Return the folder of a trained database with the outcomes of the sessions of its test, and of the last hours."""
    folder = tmp_path_factory.mktemp("quality")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    with client_of(settings) as client:
        changes = asked_about(client, last_sessions(settings, 150))
        now = settings.wall_now()
        recent = [
            one._replace(after=one.after._replace(asked_at=now - timedelta(minutes=60 + place)))
            for place, one in enumerate(changes[-60:])
        ]
        applied(client.app.state.engine, changes + recent)
    return folder


@pytest.fixture
def spring(answered, tmp_path):
    """Yield a client of an app on a copy of this database."""
    shutil.copy(answered / "zap.sqlite", tmp_path / "zap.sqlite")
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=answered / "models", follow=False
    )
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


def test_it_shows_the_scores_of_the_json_route_beside_guessing(spring):
    page = spring.get("/pages/quality", params=SPRING | {"by": "week"})
    (version,) = spring.get("/quality", params=SPRING).json()["versions"]
    scores, said = version["final"]["scores"], text_of(page)

    assert page.status_code == 200
    assert f"{scores['log_loss']:.3f} guessing: {scores['baselines'][scores['best_baseline']]['log_loss']:.3f}" in said
    best_f1 = scores["baselines"][scores["best_baseline_by_f1"]]["weighted_f1"]
    assert f"{scores['weighted_f1']:.3f} guessing: {best_f1:.3f}" in said
    low, high = (f"{end:+.3f}".replace("-", "−") for end in scores["log_loss_difference_interval"])
    assert f"(95%: {low} to {high})" in said
    for name, one in scores["per_class"].items():
        assert f"{name} {one['support']} {one['f1']:.3f}" in said
    row, used = scores["confusion_matrix"][0], scores["classes"][0]
    assert f"{used} ✓ {100 * row[0] / sum(row):.1f}% {row[0]}" in said
    assert f"Mean distance from the line: {100 * scores['calibration']['expected_calibration_error']:.1f}%" in said
    assert f"matched with a session {version['final']['answers']['matched']} 100.0%" in said
    assert 'href="/quality?from=2024-04-01&amp;to=2024-05-31&amp;by=week&amp;as=json" download' in page.text


def test_its_plots_show_each_period_beside_guessing_with_bands(spring):
    page = spring.get("/pages/quality", params=SPRING | {"by": "month"})
    (version,) = spring.get("/quality", params=SPRING | {"by": "month"}).json()["versions"]
    loss, f1 = plot_of(page, "log-loss"), plot_of(page, "weighted-f1")

    model, guessing = loss["lines"]
    assert (model["name"], guessing["name"], guessing["kind"]) == ("zap", "guessing", "dashed")
    assert len(loss["x"]) == len(version["periods"])
    for place, period in enumerate(version["periods"]):
        scores = period["scores"]
        assert loss["x"][place] == datetime.fromisoformat(period["from"] + "T00:00Z").timestamp()
        assert model["values"][place] == pytest.approx(scores["log_loss"])
        assert guessing["values"][place] == pytest.approx(scores["log_loss"] - scores["log_loss_difference"])
        assert f1["lines"][0]["values"][place] == pytest.approx(scores["weighted_f1"])
        if scores["log_loss_difference_interval"]:
            low, high = scores["log_loss_difference_interval"]
            assert model["high"][place] - model["low"][place] == pytest.approx(high - low)


def test_final_and_provisional_days_are_apart(spring):
    page = spring.get("/pages/quality")
    said = text_of(page)

    assert "No final outcome yet" in said
    assert "Provisional days: 60 answers" in said
    assert "zap, provisional" in [line["name"] for line in plot_of(page, "log-loss")["lines"]]
    assert "Expected right answers" in said
    assert "If drivers change their behaviour, the expectation stays as high as before" in said
    assert "this is from the test of version 1" in said


def test_a_promotion_is_a_mark(spring):
    spring.post("/models/1/promote")
    today = spring.app.state.settings.wall_now().date()
    page = spring.get("/pages/quality", params={"from": today.isoformat()})

    assert [mark["text"] for mark in plot_of(page, "log-loss")["marks"]] == ["version 1"]


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"by": "hour"}, 400, "give one of: day, week, month"),
        ({"version": "newest"}, 400, "give a whole number from 1 on"),
        ({"from": "2024-02-30"}, 400, "give a day such as"),
        ({"from": "2024-02-02", "to": "2024-02-01"}, 400, "is 2024-02-02; it must not be after 2024-02-01"),
        ({"from": "2000-01-01"}, 400, "at most 1,099 days before"),
        ({"from": "2024-01-01", "to": "2025-12-31", "by": "day"}, 400, "choose week"),
        ({"version": "99"}, 404, "there is no model version 99"),
        ({"from": "9999-12-31"}, 200, "No outcome is known on these days"),
        ({"to": "0001-01-01"}, 200, "No outcome is known on these days"),
    ],
)
def test_what_cannot_be_asked_is_a_page_that_says_why(shared_client, asked, status, said):
    page = shared_client.get("/pages/quality", params=asked)

    assert page.status_code == status
    assert said in text_of(page)
    assert page.headers["content-type"].startswith("text/html")


def test_empty_fields_of_the_form_are_left_out_of_the_address(sqlite_client):
    reply = sqlite_client.get("/pages/quality?version=&from=2024-04-01&to=&by=week", follow_redirects=False)

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/quality?from=2024-04-01&by=week")


def test_without_outcomes_it_shows_what_the_test_promised(client):
    said = text_of(client.get("/pages/quality"))
    version = client.get("/models/1").json()

    assert "Version 1 has no answer with a known outcome on these days" in said
    assert f"{version['scores']['log_loss']:.3f}" in said
    assert "this is from the test of version 1" in said


def test_without_a_model_it_leads_to_the_first_steps(untrained_client):
    page = untrained_client.get("/pages/quality")

    assert page.status_code == 200
    assert "No model yet" in text_of(page)
