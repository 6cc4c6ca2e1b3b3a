"""/training-runs: followed while they run, read when they are over, cancelled."""

import json
import os
import signal
import threading
import time

import msgspec
import pytest
from conftest import counted
from servers import is_training, trainings
from sqlalchemy import insert, select
from sqlmodel import col

from zap.controllers.training_runs import RunDetail, Runs
from zap.db.engine import write_transaction
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import claim_run, finish_run
from zap.db.tables import ModelVersion, Prediction, TrainingRun, utc_now
from zap.server import run_news

QUICK = {"hyper_parameters": {"n_estimators": 3}}
# Long enough to be cancelled in the middle of it.
LONG = {"hyper_parameters": {"n_estimators": 10_000, "num_leaves": 200}}


def begin(client, body):
    reply = client.post("/train-model", json=body, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return reply.headers["location"]


def wait(client, location, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition(run := client.get(location).json()):
        assert time.monotonic() < end, run
        time.sleep(0.05)
    return run


def events(reply):
    """Return the fields of each server-sent event. A slow machine puts comments between events; they are left out."""
    blocks = reply.text.replace("\r\n", "\n").strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks if not block.startswith(":")]


@pytest.fixture
def told(client):
    """The place of a run that has told four things and then finished."""
    engine = client.app.state.engine
    run = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        add_events(connection, run, [{"phase": "fit", "done": done, "total": 3} for done in range(4)])
        finish_run(connection, run, {"model_version": 7})
    return f"/training-runs/{run}"


def test_it_works(client):
    """Start a training, follow it to its end, and read it afterwards."""
    location = begin(client, QUICK)

    said = events(client.get(f"{location}/events"))

    *progress, end = said
    assert {event["event"] for event in progress} == {"progress"}
    ids = [int(event["id"]) for event in progress]
    assert ids == sorted(ids)
    phases = [json.loads(event["data"])["phase"] for event in progress]
    assert list(dict.fromkeys(phases)) == ["read", "clean", "features", "fit", "evaluate", "save", "log"]
    last_round = next(json.loads(event["data"]) for event in progress if '"done": 3' in event["data"])
    assert (last_round["phase"], last_round["total"]) == ("fit", 3)
    assert last_round["log_loss"] > 0
    assert (end["event"], json.loads(end["data"])) == ("end", {"status": "finished", "model_version": 2})
    run = msgspec.json.decode(client.get(location).content, type=RunDetail)
    assert (run.status, run.kind, run.options) == ("finished", "train", QUICK)
    assert run.report["model_version"] == 2
    assert run.progress.phase == "log"
    listed = msgspec.json.decode(client.get("/training-runs").content, type=Runs)
    assert [one.run_id for one in listed.training_runs] == [run.run_id, 1]


@pytest.mark.parametrize("trained", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_a_run_that_is_cancelled_ends_within_two_seconds_and_leaves_nothing(new_processes, client, good_request, rows):
    before = client.app.state.settings.model_file.read_bytes()
    location = begin(client, LONG)
    wait(client, location, lambda run: (run["progress"] or {}).get("phase") == "fit")
    (child,) = trainings(os.getpid())

    reply = client.delete(location)

    cancelled = time.monotonic()
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    while is_training(child):
        assert time.monotonic() < cancelled + 2
        time.sleep(0.02)
    assert client.post("/predict", json=good_request).json()["model_version"] == 1
    assert [row["status"] for row in rows(client.app, ModelVersion)] == ["production"]
    assert client.app.state.settings.model_file.read_bytes() == before
    said = events(client.get(f"{location}/events"))
    assert json.loads(said[-1]["data"]) == {"status": "cancelled", "model_version": None}
    # The way is free.
    assert client.post("/train-model", json=QUICK).status_code == 200


def test_what_a_cancelled_run_has_logged_goes(client):
    logged = counted(client.app, Prediction)
    run = claim_run(client.app.state.engine, "train", {})
    with write_transaction(client.app.state.engine) as connection:
        version = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
        candidate = {"model_version": 2, "run_id": run, "status": "candidate"}
        connection.execute(insert(ModelVersion), version | candidate)
        row = {"prediction_timestamp": utc_now(), "source": "train", "predicted_class": "A", "model_version": 2}
        connection.execute(insert(Prediction), [row] * 5000)

    assert client.delete(f"/training-runs/{run}").status_code == 200

    end = time.monotonic() + 30
    while counted(client.app, Prediction) > logged or counted(client.app, ModelVersion) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_who_waits_for_a_training_that_is_cancelled_is_told(client):
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(client.post("/train-model", json=LONG)))
    waiting.start()
    wait(client, "/training-runs/2", lambda run: run.get("heartbeat_at"))

    assert client.delete("/training-runs/2").status_code == 200

    waiting.join()
    assert replies[0].status_code == 409
    assert replies[0].json()["type"] == "urn:zap:problem:training-cancelled"


def test_a_run_that_has_ended_is_not_cancelled(client, told):
    assert client.delete(told).status_code == 409
    assert client.delete(told).json()["type"] == "urn:zap:problem:run-ended"


def test_who_was_cut_off_goes_on_where_it_was(client, told):
    every = events(client.get(f"{told}/events"))
    assert [json.loads(event["data"]).get("done") for event in every] == [0, 1, 2, 3, None]

    rest = events(client.get(f"{told}/events", headers={"Last-Event-ID": every[1]["id"]}))

    assert rest == every[2:]
    # Who has heard the end is not told it again and again.
    assert client.get(f"{told}/events", headers={"Last-Event-ID": every[-1]["id"]}).status_code == 204


def test_a_client_reads_no_event_while_nothing_happens(sqlite_client, monkeypatch):
    monkeypatch.setattr(run_news, "_SILENT_SECONDS", 0.05)
    engine = sqlite_client.app.state.engine
    run = claim_run(engine, "train", {})

    def end():
        time.sleep(0.3)
        with write_transaction(engine) as connection:
            finish_run(connection, run, {"model_version": 7})

    ending = threading.Thread(target=end)
    ending.start()
    with sqlite_client.stream("GET", f"/training-runs/{run}/events") as reply:
        lines = list(reply.iter_lines())
    ending.join()

    assert ": still running" in lines
    # A line with data makes an event, even if it is empty.
    assert [line for line in lines if line.startswith("data:")] == ['data: {"status": "finished", "model_version": 7}']


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "١"])
def test_a_last_event_id_that_is_none_is_refused(shared_client, last):
    reply = shared_client.get("/training-runs/1/events", headers={"Last-Event-ID": last.encode()})

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["detail"] == ("the header Last-Event-ID must be the number of an event, or end")


@pytest.mark.parametrize("path", ["/training-runs/99", "/training-runs/99/events", "/training-runs/1_0"])
def test_a_run_that_is_not_there_is_not_found(shared_client, path):
    assert shared_client.get(path).status_code == 404
    assert shared_client.delete(path.removesuffix("/events")).status_code == 404


def test_runs_come_page_by_page(sqlite_client):
    engine = sqlite_client.app.state.engine
    for _ in range(4):
        run = claim_run(engine, "tune", {})
        with write_transaction(engine) as connection:
            finish_run(connection, run, {})

    page = sqlite_client.get("/training-runs", params={"limit": 2}).json()["training_runs"]
    rest = sqlite_client.get("/training-runs", params={"before": page[-1]["run_id"]}).json()["training_runs"]

    assert [run["run_id"] for run in page + rest] == [5, 4, 3, 2, 1]
    assert page[0]["kind"] == "tune"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=-1", "before=x"])
def test_a_query_out_of_range_is_refused(shared_client, query):
    assert shared_client.get(f"/training-runs?{query}").status_code == 400


def test_a_run_that_died_is_failed_within_15_seconds_although_nobody_asks(client):
    # The server checks the runs by itself.
    engine = client.app.state.engine
    run = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        connection.execute(
            TrainingRun.__table__.update().where(col(TrainingRun.run_id) == run).values(
                heartbeat_at=col(TrainingRun.started_at)
            )
        )  # fmt: skip

    found = wait(client, f"/training-runs/{run}", lambda run: run["status"] != "running", seconds=15)

    assert found["status"] == "failed"
    assert "died" in found["report"]["detail"]


@pytest.mark.parametrize("trained", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_a_training_process_that_dies_is_told_at_once(new_processes, client, rows):
    location = begin(client, LONG)
    wait(client, location, lambda run: (run["progress"] or {}).get("phase") == "fit")
    (child,) = trainings(os.getpid())
    os.kill(child, signal.SIGKILL)

    found = wait(client, location, lambda run: run["status"] != "running", seconds=5)

    assert found["report"]["type"] == "urn:zap:problem:training-failed"
    assert [row["status"] for row in rows(client.app, ModelVersion)] == ["production"]
