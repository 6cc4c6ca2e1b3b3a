"""The replies of every JSON route, held to the schemas of the OpenAPI document, without a field that it leaves out."""

import time
from datetime import datetime, timedelta

import pytest
from conftest import client_of
from described import Document
from keyed import make_key
from outcomes import applied, asked_about, last_sessions
from sqlalchemy import update
from trialled import HORIZON, answered, no_check

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import claim_run
from zap.db.tables import ModelVersion
from zap.flows.trials import Trials

QUICK = {"hyper_parameters": {"n_estimators": 3}}
JSON = ("application/json", "application/problem+json")
# Fields whose members the document does not name, and why.
OPEN = {
    "TrainReply.hyper_parameters": "the parameters of LightGBM",
    "ModelDetail.hyper_parameters": "the parameters of LightGBM",
    "ModelDetail.evaluation": "the scores of a version as its zap stored them; an older zap stored other scores",
    "ModelDetail.contract": "the fields of a request as the version's zap stored them",
    "ModelDetail.features": "the features as the version's zap stored them",
    "RunSummary.options": "the options of a request or of a command",
    "RunDetail.options": "the options of a request or of a command",
    "RunDetail.report": "a TrainReply, a Problem or the result of a search",
    "AlarmRecord.evidence": "the figures of each kind of alarm",
    "AuditEntry.before": "what each kind of change has changed",
    "AuditEntry.after": "what each kind of change has changed",
    "PredictionRecord.request": "the JSON as the client sent it",
}


class Held:
    """A client whose JSON replies must conform to the document. It remembers the operations that answered."""

    def __init__(self, client):
        self._client = client
        self.document = Document(client.get("/openapi.json").json())
        self.answered = set()

    def request(self, method, template, status=200, *, number=None, **options):
        path = template.partition("{")[0] + f"{number}{template.partition('}')[2]}" if number is not None else template
        reply = self._client.request(method, path, **options)
        assert reply.status_code == status, reply.text
        self.check(method, template, reply)
        return reply.json()

    def check(self, method, template, reply):
        described = self.document.paths[template][method]["responses"][str(reply.status_code)]
        kind = reply.headers["content-type"].partition(";")[0]
        assert kind in described["content"], (method, template, reply.status_code)
        content, value = described["content"][kind], reply.json()
        assert self.document.faults(value, content["schema"], f"{method} {template}: ") == []
        # /docs shows an answer with these fields, and a problem with this type and title.
        fixed = ("type", "title", "status") if reply.status_code >= 400 else ()
        shown = [example["value"] for example in content["examples"].values()]
        alike = [one for one in shown if all(one.get(name) == value.get(name) for name in fixed)]
        assert any(one.keys() == value.keys() for one in alike), (method, template, value)
        self.answered.add((method, template, reply.status_code))


def settled(held, number):
    end = time.monotonic() + 60
    while (run := held.request("get", "/training-runs/{run_id}", number=number))["status"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    return run


def trainings(held):
    """Train with windows, without waiting, and only if it is better. Cancel a run."""
    whole = held.request("post", "/train-model", json=QUICK | {"windows": True})
    compared = held.request("post", "/train-model", json=QUICK | {"promote": "if_better", "history_to": "2030-01-01"})
    begun = held.request("post", "/train-model", 202, json=QUICK, headers={"Prefer": "respond-async"})
    run = settled(held, begun["run_id"])
    report = held.document.schemas["TrainReply"]
    assert held.document.faults(run["report"], report) == held.document.faults(whole, report) == []
    assert compared["promotion"]["promoted"] is False
    engine = held._client.app.state.engine
    running = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        add_events(connection, running, [{"phase": "fit", "done": 1, "total": 3, "log_loss": 0.5}])
    held.request("get", "/training-runs/{run_id}", number=running)
    held.request("post", "/train-model", 409, json=QUICK)
    held.request("delete", "/training-runs/{run_id}", number=running)
    held.request("delete", "/training-runs/{run_id}", 409, number=running)
    held.request("get", "/training-runs")


def predictions(held, good_request):
    answer = held.request("post", "/predict", json=good_request)
    held.request("get", "/predictions/{prediction_id}", number=answer["prediction_id"])
    held.request("get", "/predictions/{prediction_id}", number=1)
    explained = held.request("post", "/predict", json=good_request | {"explain": True, "user_id": "sample-1-00003"})
    for one in (answer, explained):
        held.request("get", "/predictions/{prediction_id}/explanation", number=one["prediction_id"])
    held.request("get", "/predictions/{prediction_id}/explanation", 404, number=1)
    held.request("post", "/predict/batch", json={"inputs": [good_request, good_request | {"explain": True}]})
    held.request("get", "/predictions/{prediction_id}", 404, number=10**9)
    held.request("post", "/predict", 422, json=good_request | {"temperature_c": 900, "humidity": 1})
    rows = {"inputs": [good_request, {"temperature_c": 900}]}
    held.request("post", "/predict/batch", json=rows, params={"on_error": "skip"})
    held.request("post", "/predict/batch", 422, json=rows)
    names, cells = ",".join(good_request), ",".join(map(str, good_request.values()))
    table, csv = f"{names}\n{cells}\n{cells},7\n", {"Content-Type": "text/csv"}
    held.request("post", "/predict/batch", 422, content=table, headers=csv)
    held.request("post", "/predict/batch", content=f"{names}\n{cells}\n", headers=csv)


def versions(held):
    held.request("post", "/models/{model_version}/promote", number=1, json={"who": "ann", "why": "a test"})
    held.request("post", "/models/rollback")
    held.request("get", "/models")
    held.request("get", "/models/history")
    held.request("get", "/models/{model_version}", number=1)
    held.request("get", "/models/{model_version}", 404, number=99)
    # Versions that are older than zap lack many columns.
    older = [column.name for column in ModelVersion.__table__.columns if column.nullable and column.name != "artefact"]
    with write_transaction(held._client.app.state.engine) as connection:
        this = ModelVersion.model_version == 1
        connection.execute(update(ModelVersion).where(this).values(dict.fromkeys(older)))
    held.request("get", "/models/{model_version}", number=1)
    held.request("get", "/models")


def trials(held):
    begun = held.request("post", "/models/{model_version}/trial", number=1, json={"who": "ann"})
    held.request("post", "/models/{model_version}/trial", 409, number=1)
    state, start = held._client.app.state, datetime.fromisoformat(begun["started_at"])
    answered(state.engine, begun["trial_id"], state.settings.wall_time(start), (0.4, 0.6), drivers=20, mixed=True)
    looking = Trials(state.engine, state.settings, HORIZON)
    looking.look(no_check, start + timedelta(weeks=1) + HORIZON)
    looking.close()
    assert held.request("get", "/trials/{trial_id}", number=1)["evidence"]["drivers"] == 20
    held.request("get", "/trials/{trial_id}", 404, number=99)
    held.request("post", "/models/{model_version}/trial/end", number=1)
    held.request("get", "/trials")


def sessions(held):
    session = {"session_id": 10**7, "user_id": "a", "charger_type": "Level 1"}
    held.request("post", "/charging-sessions", json=session | {"charging_start_time": "2024-06-01T10:00:00"})
    held.request("post", "/charging-sessions", 422, json=[{"session_id": -1}])


def alarms(held):
    held.request("get", "/alarms")
    with write_transaction(held._client.app.state.engine) as connection:
        raise_alarm(connection, "harm", "version 1", "it is worse", {"drivers": 41}, posts=False)
    held.request("post", "/alarms/{alarm_id}/acknowledge", number=1, json={"who": "ann"})
    held.request("post", "/alarms/{alarm_id}/acknowledge", 422, number=1, json={})
    held.request("get", "/alarms", params={"all": True})


def quality(held, settings):
    held.request("get", "/predictions", params={"limit": 2})
    held.request("get", "/quality/data")
    held.request("get", "/serving")
    held.request("get", "/quality")
    changes = asked_about(held._client, last_sessions(settings, 40))
    applied(held._client.app.state.engine, changes)
    days = {"from": "2024-04-01", "to": "2024-06-30", "by": "week"}
    assert held.request("get", "/quality", params=days)["versions"][0]["final"]["scores"]["sessions"] == 40
    held.request("get", "/quality", 404, params={"version": 99})


def changes(held):
    """Erase a driver, and read the audit, which has a row about it."""
    held.request("delete", "/drivers/{user_id}", number="sample-1-00003")
    held.request("delete", "/drivers/{user_id}", 404, number="nobody")
    held.request("get", "/audit")


def keys(held):
    """Make, rotate and revoke a key. From here on the client has a key."""
    held.request("post", "/keys", 409, json={"name": "app", "scopes": ["predict"]})
    state = held._client.app.state
    held._client.headers["X-API-Key"] = make_key(state.engine, "admin")
    end = time.monotonic() + 10
    while not state.api_keys.is_closed:
        assert time.monotonic() < end
        time.sleep(0.05)
    made = held.request("post", "/keys", json={"name": "app", "scopes": ["predict"], "expires": "90d"})
    rotated = held.request("post", "/keys/{key_id}/rotate", number=made["key_id"], json={"keep": "1h"})
    held.request("delete", "/keys/{key_id}", number=rotated["key_id"])
    held.request("get", "/keys", params={"all": True})


def refusals(held):
    """Send each route a wrong value of each parameter, and a body that is no JSON or has an unknown field."""
    for path, methods in held.document.paths.items():
        number = 1 if "{" in path else None
        for method, operation in methods.items():
            queried = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            body = {"json": {"inputs": []}} if method == "post" else {}
            for name in queried:
                held.request(method, path, 400, number=number, params={name: "\0"}, **body)
            if "requestBody" in operation:
                held.request(method, path, 400, number=number, content="{", headers={"Content-Type": JSON[0]})
                held.request(method, path, 422, number=number, json={"wo": "ann"})
    back = {"from": "2026-03-02", "to": "2026-03-01"}
    for path in ("/predictions", "/quality", "/quality/data"):
        held.request("get", path, 400, params=back)


def health(held):
    held.request("get", "/health/live")
    held.request("get", "/health/ready")
    file = held._client.app.state.settings.model_file
    file.unlink()
    end = time.monotonic() + 15
    while held.request("get", "/health/ready")["model_file_restored"] is None:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_reply_is_described(trained_sqlite, good_request):
    with client_of(trained_sqlite, raise_server_exceptions=False) as client:
        held = Held(client)
        trainings(held)
        predictions(held, good_request)
        quality(held, trained_sqlite)
        trials(held)
        versions(held)
        sessions(held)
        alarms(held)
        changes(held)
        refusals(held)
        health(held)
        keys(held)

    described = {
        (method, path, int(status))
        for path, methods in held.document.paths.items()
        for method, operation in methods.items()
        for status, reply in operation["responses"].items()
        if int(status) < 300 and any(kind in reply.get("content", {}) for kind in JSON)
    }
    assert described <= held.answered, "this test asks every JSON route: ask the new one too"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_server_without_a_model_is_described(untrained_client):
    held = Held(untrained_client)

    held.request("get", "/health/ready", 503)
    for path in ("/models", "/models/history", "/training-runs", "/quality"):
        held.request("get", path)
    held.request("post", "/train-model", 422)
    held.request("post", "/models/rollback", 409)
    held.request("get", "/training-runs/{run_id}", number=1)


def test_the_fields_with_members_that_the_document_does_not_name_are_known(sqlite_client):
    assert Document(sqlite_client.get("/openapi.json").json()).open_fields() == OPEN.keys()


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": 1, "b": [{"from": "x"}]}, []),
        ({"a": 1.5}, ["reply.a: 1.5 is no integer"]),
        ({"a": True}, ["reply.a: True is no integer"]),
        ({}, ["reply.a is missing"]),
        ({"a": 1, "c": None}, ["reply.c is not described"]),
        ({"a": 1, "b": [{"from": "x", "to": "y"}]}, ["reply.b[0].to is not described"]),
        ({"a": 1, "b": [{"from": None}]}, ["reply.b[0].from: None is not ['x']"]),
    ],
)
def test_a_reply_that_differs_from_its_schema_is_found(value, fault):
    inner = {"type": "object", "properties": {"from": {"enum": ["x"]}}}
    array = {"anyOf": [{"type": "array", "items": {"$ref": "#/components/schemas/Inner"}}, {"type": "null"}]}
    outer = {"type": "object", "properties": {"a": {"type": "integer"}, "b": array}, "required": ["a"]}
    document = Document({"paths": {}, "components": {"schemas": {"Inner": inner}}})

    assert document.faults(value, outer, "reply") == fault
