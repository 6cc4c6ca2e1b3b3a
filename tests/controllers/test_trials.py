"""Trials over HTTP: begin one, read it, end it, and what is refused."""

from datetime import timedelta

import msgspec
import pytest
from conftest import client_of
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col
from trialled import HORIZON, add_copies, answered, follow, no_check

from zap.controllers.trial_replies import TrialRecord, TrialRecords
from zap.db.engine import write_transaction
from zap.db.monitoring.trials import MOST_RUNNING
from zap.db.tables import ModelVersion, utc_now
from zap.flows.trials import Trials
from zap.monitoring.trials import CAVEAT, EPSILON, LONGEST_WEEKS


@pytest.fixture
def versions(client):
    add_copies(client.app.state.engine, MOST_RUNNING + 1)
    return client


@pytest.fixture
def sqlite_versions(sqlite_client):
    add_copies(sqlite_client.app.state.engine, MOST_RUNNING + 1)
    return sqlite_client


def read(reply):
    assert reply.status_code == 200, reply.text
    return msgspec.json.decode(reply.content, type=TrialRecord)


def test_the_whole_life_of_a_trial(versions, good_request):
    """Begin a trial, ask, let a week pass, and be answered by the version that was better."""
    client, state = versions, versions.app.state
    body = {"on_better": "promote", "epsilon": 0.01, "weeks": 4, "who": "ann", "why": "more trees"}
    begun = read(client.post("/models/2/trial", json=body))
    assert (begun.trial_id, begun.model_version, begun.champion_version, begun.status) == (1, 2, 1, "running")
    assert (begun.epsilon, begun.weeks, begun.on_better, begun.who, begun.why) == (
        *(0.01, 4, "promote"), *("ann", "more trees")
    )  # fmt: skip
    assert (begun.evidence.verdict, CAVEAT in begun.evidence.message) == (None, True)

    answer = client.post("/predict", json=good_request | {"user_id": "u"}).json()
    # Drivers see the answers of the champion alone.
    assert answer["model_version"] == 1
    follow(state.engine)
    trials = Trials(state.engine, state.settings, HORIZON)
    trials.look(no_check, utc_now())
    assert read(client.get("/trials/1")).answered == 1
    at = state.settings.wall_time(begun.started_at) + timedelta(days=3)
    answered(state.engine, 1, at, (0.5, 0.95))
    trials.look(no_check, begun.started_at + timedelta(weeks=1) + HORIZON)
    trials.close()

    found = read(client.get("/trials/1"))
    assert (found.status, found.evidence.promoted, found.evidence.look) == ("better", True, 1)
    assert found.evidence.until == begun.started_at + timedelta(weeks=1)
    assert 0 < found.evidence.low < found.evidence.mean
    assert (found.evidence.drivers, CAVEAT in found.evidence.message) == (150, True)
    assert found.ended_at is not None
    state.production.refresh()
    assert client.post("/predict", json=good_request).json()["model_version"] == 2
    change = client.get("/models/history").json()["promotions"][0]
    assert (change["who"], change["to_version"]) == ("trial", 2)
    assert change["why"].startswith("trial 1: The challenger is better")


def test_without_a_body_it_has_the_defaults_and_only_tells(sqlite_versions):
    begun = read(sqlite_versions.post("/models/2/trial"))

    assert (begun.epsilon, begun.weeks, begun.on_better) == (EPSILON, LONGEST_WEEKS, "tell")
    assert begun.longest_until - begun.started_at == timedelta(weeks=LONGEST_WEEKS)
    assert (begun.who, begun.why) == (None, None)


def test_a_whole_number_may_be_written_with_a_fraction(sqlite_versions):
    assert read(sqlite_versions.post("/models/2/trial", json={"weeks": 4.0})).weeks == 4


def test_a_person_ends_a_trial(versions):
    versions.post("/models/2/trial")

    ended = read(versions.post("/models/2/trial/end", json={"who": "bob", "why": "a mistake"}))

    assert (ended.status, ended.trial_id) == ("ended", 1)
    assert ended.evidence.message.startswith("The trial was ended by bob: a mistake. ")
    again = versions.post("/models/2/trial/end")
    assert (again.status_code, again.json()["detail"]) == (404, "version 2 is not on trial")
    # It may be tried again.
    assert read(versions.post("/models/2/trial")).trial_id == 2


def test_trials_are_listed_in_pages(sqlite_versions):
    for number in (2, 3, 4):
        sqlite_versions.post(f"/models/{number}/trial")

    def listed(query):
        found = msgspec.json.decode(sqlite_versions.get(f"/trials{query}").content, type=TrialRecords).trials
        return [one.trial_id for one in found]

    assert listed("") == [3, 2, 1]
    assert listed("?limit=2") == [3, 2]
    assert listed("?limit=2&before=2") == [1]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "version 1 serves already"),
        (2, "version 2 is on trial already, in trial 1"),
        (3, "version 3 cannot serve: the artefact of version 3 was pruned"),
    ],
)
def test_what_cannot_be_tried_is_refused(sqlite_versions, number, said):
    sqlite_versions.post("/models/2/trial")
    with write_transaction(sqlite_versions.app.state.engine) as connection:
        connection.execute(update(ModelVersion).where(col(ModelVersion.model_version) == 3).values(artefact=None))

    reply = sqlite_versions.post(f"/models/{number}/trial")

    assert (reply.status_code, reply.json()["type"]) == (409, "urn:zap:problem:trial-refused")
    assert said in reply.json()["detail"]
    assert len(sqlite_versions.get("/trials").json()["trials"]) == 1


def test_too_many_trials_and_no_version_in_production_are_refused(sqlite_versions):
    for number in range(2, MOST_RUNNING + 2):
        read(sqlite_versions.post(f"/models/{number}/trial"))
    many = sqlite_versions.post(f"/models/{MOST_RUNNING + 2}/trial")
    with write_transaction(sqlite_versions.app.state.engine) as connection:
        connection.execute(update(ModelVersion).values(status="candidate"))
    none = sqlite_versions.post(f"/models/{MOST_RUNNING + 2}/trial")

    for reply, said in ((many, f"{MOST_RUNNING} trials run already"), (none, "no version serves")):
        assert (reply.status_code, reply.json()["type"]) == (409, "urn:zap:problem:trial-refused")
        assert said in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/models/99/trial", "/models/1_0/trial", f"/models/{2**63}/trial/end"])
def test_what_is_not_there_is_not_found(sqlite_versions, path):
    assert sqlite_versions.post(path).status_code == 404
    assert sqlite_versions.get("/trials/1").status_code == 404
    assert sqlite_versions.get("/trials/1_0").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({"epsilon": 0.6}, "#/epsilon", "0 to 0.5"),
        ({"epsilon": -0.1}, "#/epsilon", "0 to 0.5"),
        ({"weeks": 0}, "#/weeks", "1 to 52"),
        ({"weeks": 2.5}, "#/weeks", "whole number"),
        ({"weeks": True}, "#/weeks", "must be a number"),
        ({"on_better": "serve"}, "#/on_better", "must be one of promote, tell"),
        ({"who": 7}, "#/who", "must be a string"),
        ({"epsilom": 0.1}, "#/epsilom", "epsilon"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(sqlite_versions, body, pointer, said):
    reply = sqlite_versions.post("/models/2/trial", json=body)

    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert error["pointer"] == pointer
    assert said in error["detail"]
    assert sqlite_versions.get("/trials").json()["trials"] == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [(b"{", "application/json", 400), (b"{}", "text/plain", 415), (b" " * 70_000, "application/json", 413)],
)
@pytest.mark.parametrize("path", ["/models/2/trial", "/models/2/trial/end"])
def test_a_body_that_is_no_json_is_refused(sqlite_versions, path, body, content_type, status):
    reply = sqlite_versions.post(path, content=body, headers={"Content-Type": content_type})

    assert reply.status_code == status


def test_it_needs_the_key_like_a_promotion(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"api_key": SecretStr("a key of the tests")})) as client:
        for method, path in (("post", "/models/1/trial"), ("post", "/models/1/trial/end"), ("get", "/trials")):
            assert client.request(method, path).status_code == 401
        headers = {"X-API-Key": "a key of the tests"}
        assert client.post("/models/1/trial", headers=headers).status_code == 409
        assert client.get("/trials", headers=headers).json() == {"trials": []}
