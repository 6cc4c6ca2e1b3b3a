"""The pages about model versions: the list, one version, two versions, promotions, rollbacks and trials."""

import re
import time

import pytest
from sqlalchemy import update
from sqlmodel import col
from trialled import add_copies

from zap.db.engine import write_transaction
from zap.db.tables import ModelVersion
from zap.db.versions.promotions import newest_promotions, promote_version, roll_back, rollback_target
from zap.formats.promotion_reason import Reason

# What a version of an older zap does not have.
OLDER = {
    "evaluation": None,
    "hyper_parameters_from": None,
    "features": None,
    "columns": None,
    "classes": None,
    "trained_from": None,
    "trained_until": None,
    "trained_samples": None,
    "test_samples": None,
    "rows_sha256": None,
    "rows_by_month": None,
    "trees_sha256": None,
    "seed": None,
    "libraries": None,
    "code_version": None,
    "golden": None,
    "file_sha256": None,
}


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def send(client, path, **fields):
    """Open the question at a path, and send its form with these fields."""
    page = client.get(path)
    hidden = dict(re.findall(r'<input type="hidden" name="(serving|target|token)" value="([^"]*)"', page.text))
    return client.post(path, data={**hidden, **fields}, follow_redirects=False)


def served(client):
    return client.app.state.production.predictor.model_version


@pytest.fixture
def two(client):
    """Return a client of an app, on each engine, with a version in production and a candidate."""
    assert add_copies(client.app.state.engine) == [2]
    return client


@pytest.fixture
def sqlite_two(sqlite_client):
    assert add_copies(sqlite_client.app.state.engine) == [2]
    return sqlite_client


# The list


def test_versions_have_their_scores_beside_guessing(two):
    page = two.get("/pages/models").text
    scores = two.get("/models/1").json()["scores"]

    for name in ("log_loss", "test_f1_score"):
        assert f"{scores[name]:.3f}<br>" in page
    for name in ("best_baseline_log_loss", "best_baseline_f1_score"):
        assert f"guessing {scores[name]:.3f}" in page
    assert page.index("candidate") < page.index("in production")
    assert "beats guessing" in page
    assert "synthetic sample" in page
    assert "training run 1: the training was started with promote: always" in page
    assert '<a href="/pages/models/2">2</a>' in page
    assert '<a href="/pages/models" aria-current="page">Models' in page


def test_older_versions_are_on_other_pages(sqlite_client):
    numbers = add_copies(sqlite_client.app.state.engine, 21)
    first = sqlite_client.get("/pages/models").text
    shown = [int(one) for one in re.findall(r'<td class="number"><a href="/pages/models/(\d+)">', first)]
    assert shown == numbers[:0:-1]

    (older,) = re.findall(r'href="(/pages/models\?before=\d+)"', first)
    second = sqlite_client.get(older).text

    assert re.findall(r'<td class="number"><a href="/pages/models/(\d+)">', second) == ["2", "1"]
    assert "before=" not in second.replace(older, "")
    assert "No older version" in sqlite_client.get("/pages/models?before=1").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pages/models?before=0", 400),
        ("/pages/models?before=new", 400),
        ("/pages/models/compare?first=a&second=1", 400),
        ("/pages/models/compare?first=-1&second=1", 400),
        ("/pages/models/compare?first=1&second=99", 404),
        ("/pages/models/99", 404),
        ("/pages/models/99999999999999999999", 404),
        ("/pages/models/-1", 404),
        ("/pages/models/one", 404),
        ("/pages/models/99/promote", 404),
        ("/pages/models/99/trial", 404),
        ("/pages/models/1/trial/end", 404),
        ("/pages/models/rollback", 409),
    ],
)
def test_a_wrong_address_is_a_page_that_says_what_is_wrong(shared_client, path, status):
    page = shared_client.get(path)

    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "request id" in page.text


def test_without_a_version_the_pages_lead_to_a_training(untrained_client):
    for path in ("/pages/models", "/pages/models/compare"):
        page = untrained_client.get(path)
        assert page.status_code == 200
        assert "No version yet" in page.text
        assert 'href="/pages/trainings"' in page.text


# One version, and two


def test_a_version_is_shown_in_full(client):
    page = client.get("/pages/models/1").text
    version = client.get("/models/1").json()
    evaluation = version["evaluation"]

    low, high = evaluation["log_loss_difference_interval"]
    assert f"95%: {low:+.3f} to {high:+.3f}".replace("-", "−") in page
    for baseline in evaluation["baselines"].values():
        assert f"{baseline['log_loss']:.3f}" in page
    for name, row in zip(evaluation["classes"], evaluation["confusion_matrix"], strict=True):
        assert f'<th scope="row">{name}</th>' in page
        for count in row:
            assert re.search(rf'<td class="number shade-\d[^>]*>{count:,}<br>', page)
    assert page.count("<circle") == len(evaluation["calibration"]["bins"])
    largest = next(iter(version["importances"]["groups"].values()))
    assert f"{largest['contribution']:.3f}" in page
    assert "From:" in page
    assert version["hyper_parameters_from"] in page
    assert "zap models reproduce 1" in page
    assert version["trees_sha256"] in page
    assert version["code_version"] in page
    assert "tested on the last part of the history only" in page
    assert "training run 1: the training was started with promote: always" in page
    # It serves, so it can neither be promoted nor tried.
    assert "/pages/models/1/promote" not in page
    assert "/pages/models/1/trial" not in page
    # The golden requests are sessions of drivers.
    assert "sample-1-" not in page


def test_a_version_of_an_older_zap_is_shown(sqlite_client):
    engine = sqlite_client.app.state.engine
    add_copies(engine, hyper_parameters={"num_leaves": 31}, **OLDER)

    for path in ("/pages/models/2", "/pages/models", "/pages/models/compare?first=2&second=1"):
        assert sqlite_client.get(path).status_code == 200, path
    page = sqlite_client.get("/pages/models/2").text
    assert "from an older zap and has no scores" in page
    assert "importances are not known" in page
    assert sqlite_client.get("/pages/models/2/promote").status_code == 200
    assert sqlite_client.get("/pages/models/2/trial").status_code == 200


def test_a_test_without_new_drivers_says_that_it_knows_nothing_about_them(sqlite_client):
    evaluation = evaluation_of(sqlite_client, 1)
    for first_sessions, is_said in ((None, True), (evaluation["by_earlier_sessions"]["20+"], False)):
        evaluation["by_earlier_sessions"]["0"] = first_sessions
        with write_transaction(sqlite_client.app.state.engine) as connection:
            connection.execute(update(ModelVersion).values(evaluation=evaluation))
        page = sqlite_client.get("/pages/models/1").text

        assert ("say nothing about new drivers" in page) == is_said
        assert '<th scope="row">no earlier session</th><td class="number">' in page


def test_a_pruned_candidate_offers_nothing(sqlite_client):
    add_copies(sqlite_client.app.state.engine, artefact=None)

    assert "cannot serve: pruned" in sqlite_client.get("/pages/models").text
    assert "/pages/models/2/promote" not in sqlite_client.get("/pages/models/2").text
    for path in ("/pages/models/2/promote", "/pages/models/2/trial"):
        question = sqlite_client.get(path).text
        assert "bytes were pruned" in question
        assert f'action="{path}"' not in question


def test_hyper_parameters_that_differ_from_the_defaults_have_a_star(sqlite_client):
    add_copies(sqlite_client.app.state.engine, hyper_parameters={"num_leaves": 31, "reg_alpha": 1.0})

    page = sqlite_client.get("/pages/models/2").text

    assert re.search(r"<code>num_leaves</code></th><td [^>]*>31 <span[^>]*>\*</span>", page)
    assert re.search(r"<code>reg_alpha</code></th><td [^>]*>1</td>", page)


def test_two_versions_stand_beside_each_other(sqlite_two):
    engine = sqlite_two.app.state.engine
    page = sqlite_two.get("/pages/models/compare?first=1&second=2").text
    assert "Both were tested on the same sessions" in page
    assert "+0.0000" in page

    with write_transaction(engine) as connection:
        this = update(ModelVersion).where(col(ModelVersion.model_version) == 2)
        evaluation = sqlite_two.get("/models/1").json()["evaluation"] | {"log_loss": 0.9}
        connection.execute(this.values(evaluation=evaluation, test_samples=7, hyper_parameters={"num_leaves": 5}))
    page = sqlite_two.get("/pages/models/compare?first=1&second=2").text

    assert "not comparable" in page
    # Scores on different sessions have no difference. How much better than guessing each version was, can be compared.
    first = evaluation_of(sqlite_two, 1)
    assert f"{0.9 - first['log_loss']:+.4f}" not in page
    guessing = first["baselines"][first["best_baseline"]]["log_loss"]
    assert f"{first['log_loss'] - guessing:+.4f}".replace("-", "−") in page
    assert f"{0.9 - guessing:+.4f}".replace("-", "−") in page
    assert re.search(r"<code>num_leaves</code> <span[^>]*>\*</span>", page)
    assert "one version beside itself" in sqlite_two.get("/pages/models/compare?first=1&second=1").text
    assert 'name="second"' in sqlite_two.get("/pages/models/compare").text


def evaluation_of(client, number):
    return client.get(f"/models/{number}").json()["evaluation"]


# Promotions


def test_a_version_is_promoted_after_a_question(two):
    question = two.get("/pages/models/2/promote").text
    assert "Version 1 serves now. Version 2 will serve instead." in question
    assert "Both were tested on the same sessions" in question
    assert "a trial ends" not in question
    assert served(two) == 1

    reply = send(two, "/pages/models/2/promote", who="Olena", why="more <b>trees</b>")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/models/2")
    assert served(two) == 2
    page = two.get("/pages/models/2").text
    assert "in production" in page
    assert "Olena" in page
    assert "more &lt;b&gt;trees&lt;/b&gt;" in page
    assert "promoted by Olena" in two.get("/pages/models").text
    newest = two.get("/models/history").json()["promotions"][0]
    assert (newest["who"], newest["why"], newest["to_version"]) == ("Olena", "more <b>trees</b>", 2)
    assert "serves already" in two.get("/pages/models/2/promote").text


def test_a_promotion_is_taken_back_after_a_question(two):
    send(two, "/pages/models/2/promote")
    assert "Roll back to version 1" in two.get("/pages/models").text
    question = two.get("/pages/models/rollback").text
    assert "Version 2 serves now. Version 1 will serve instead." in question

    reply = send(two, "/pages/models/rollback", who="Taras")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/models/1")
    assert served(two) == 1
    newest = two.get("/models/history").json()["promotions"][0]
    assert (newest["action"], newest["who"], newest["why"]) == ("rollback", "Taras", None)
    assert send(two, "/pages/models/rollback").status_code == 409


@pytest.mark.parametrize("path", ["/pages/models/2/promote", "/pages/models/rollback"])
def test_a_question_that_is_out_of_date_is_asked_again(sqlite_two, path):
    engine = sqlite_two.app.state.engine
    add_copies(engine)
    promote_version(engine, 3, Reason())
    page = sqlite_two.get(path)
    hidden = dict(re.findall(r'name="(serving|target|token)" value="([^"]*)"', page.text))
    promote_version(engine, 2 if "rollback" in path else 1, Reason())

    reply = sqlite_two.post(path, data=hidden, follow_redirects=False)

    assert reply.status_code == 409
    assert "Somebody has changed the version in production" in reply.text
    assert sqlite_two.get("/models/history").json()["promotions"][0]["to_version"] in {1, 2}
    # The page that is shown now has the present versions, so its form is accepted.
    again = dict(re.findall(r'name="(serving|target|token)" value="([^"]*)"', reply.text))
    assert sqlite_two.post(path, data=again, follow_redirects=False).status_code == 303


@pytest.mark.parametrize(("path", "after"), [("/pages/models/2/promote", 1), ("/pages/models/rollback", 2)])
def test_a_change_at_the_same_moment_is_not_made_twice(sqlite_two, monkeypatch, path, after):
    engine, production = sqlite_two.app.state.engine, sqlite_two.app.state.production
    add_copies(engine)
    promote_version(engine, 2, Reason())
    promote_version(engine, 3, Reason())
    page = sqlite_two.get(path)
    hidden = dict(re.findall(r'name="(serving|target|token)" value="([^"]*)"', page.text))
    changed = production.changed

    def second(*arguments):
        # The same moment: the request has seen version 3, and another request is quicker.
        if "rollback" in path:
            roll_back(engine, Reason())
        else:
            promote_version(engine, 1, Reason())
        return changed(*arguments)

    monkeypatch.setattr(production, "changed", second)
    reply = sqlite_two.post(path, data=hidden, follow_redirects=False)

    assert reply.status_code == 409
    assert "changed at the same moment" in reply.text
    assert sqlite_two.get("/models/history").json()["promotions"][0]["to_version"] == after


def test_a_wrong_reason_is_said_beside_its_field(sqlite_two):
    reply = send(sqlite_two, "/pages/models/2/promote", who="Olena", why="x" * 501)

    assert reply.status_code == 422
    assert 'name="who" maxlength="500" value="Olena"' in reply.text
    assert re.search(r'aria-describedby="wrong-why"><span class="error" id="wrong-why"', reply.text)
    assert served(sqlite_two) == 1


def test_a_version_that_cannot_serve_is_refused(sqlite_two):
    with write_transaction(sqlite_two.app.state.engine) as connection:
        this = update(ModelVersion).where(col(ModelVersion.model_version) == 2)
        connection.execute(this.values(artefact=b"damaged"))

    reply = send(sqlite_two, "/pages/models/2/promote")

    assert reply.status_code == 409
    assert "version 2 cannot serve" in reply.text
    assert served(sqlite_two) == 1


def test_with_a_key_a_promotion_needs_a_login(guarded, log_in):
    add_copies(guarded.app.state.engine)
    assert guarded.get("/pages/models/2/promote", follow_redirects=False).status_code == 303
    assert guarded.post("/pages/models/2/promote", data={}, follow_redirects=False).status_code == 401

    log_in(guarded)

    assert send(guarded, "/pages/models/2/promote").status_code == 303
    assert served(guarded) == 2


def test_the_newest_promotions_and_the_target_of_a_rollback(two):
    engine = two.app.state.engine
    assert rollback_target(engine) is None
    promote_version(engine, 2, Reason(who="a"))
    promote_version(engine, 1, Reason(who="b"))

    found = newest_promotions(engine, [1, 2, 9])

    assert {number: one["who"] for number, one in found.items()} == {1: "b", 2: "a"}
    assert newest_promotions(engine, []) == {}
    assert rollback_target(engine) == 2


# Trials


def test_a_trial_begins_and_ends_after_questions(two):
    question = two.get("/pages/models/2/trial").text
    assert "Version 1 goes on serving." in question
    assert 'name="weeks" inputmode="numeric" value="8"' in question

    reply = send(two, "/pages/models/2/trial", weeks="3", epsilon="0,01", on_better="promote", who="Ann", why="")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/models/2")
    (trial,) = two.get("/trials").json()["trials"]
    assert (trial["weeks"], trial["epsilon"], trial["on_better"], trial["who"]) == (3, 0.01, "promote", "Ann")
    assert "0 of 3 weeks" in two.get("/pages/models/2").text
    assert "on trial" in two.get("/pages/models").text
    assert "is on trial already" in two.get("/pages/models/2/trial").text
    assert "Trial 1 of version 2 ends without a verdict" in two.get("/pages/models/2/promote").text
    for number in (1, 2):
        refused = send(two, f"/pages/models/{number}/trial", weeks="3")
        assert refused.status_code == 409
        assert f'href="/pages/models/{number}"' in refused.text

    reply = send(two, "/pages/models/2/trial/end", why="enough")

    assert (reply.status_code, reply.headers["location"]) == (303, "/pages/models/2")
    assert two.get("/trials/1").json()["status"] == "ended"
    assert "The trial was ended: enough." in two.get("/pages/models/2").text
    assert two.get("/pages/models/2/trial/end").status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weeks", "99"),
        ("weeks", "soon"),
        ("weeks", "1" * 50),
        ("epsilon", "0.7"),
        ("on_better", "x"),
        ("who", "w" * 501),
    ],
)
def test_a_wrong_option_of_a_trial_is_said_beside_its_field(sqlite_two, field, value):
    reply = send(sqlite_two, "/pages/models/2/trial", **{"weeks": "8", "epsilon": "0.005", field: value})

    assert reply.status_code == 422
    assert f'<span class="error" id="wrong-{field}"' in reply.text
    assert reply.text.count('class="error" id=') == 1
    if field != "on_better":
        assert f'value="{value}"' in reply.text
    assert sqlite_two.get("/trials").json() == {"trials": []}


def test_the_version_in_production_is_not_tried(sqlite_client):
    assert "A trial is for a version that does not serve" in sqlite_client.get("/pages/models/1/trial").text


def test_the_pages_take_less_than_a_tenth_of_a_second(sqlite_client):
    add_copies(sqlite_client.app.state.engine, 30)
    for path in (
        "/pages/models",
        "/pages/models/1",
        "/pages/models/compare?first=1&second=2",
        "/pages/models/2/promote",
    ):
        sqlite_client.get(path)
        seconds = []
        for _ in range(5):
            before = time.perf_counter()
            assert sqlite_client.get(path).status_code == 200
            seconds.append(time.perf_counter() - before)
        assert min(seconds) < 0.1, path
