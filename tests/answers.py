"""The answers that /docs shows: real answers of a server that began as `make serve` begins, with the sample history.

`python tests/answers.py` asks a new server and writes zap/controllers/answers.json. tests/controllers/test_answers.py
asks again, and compares.
"""

import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import httpx
from databases import LEAST_RIGHTS, connect, postgresql_database, role_in
from keyed import make_key
from litestar.testing import TestClient
from pydantic import SecretStr
from servers import trainings as trainings_of
from servers import until
from sqlalchemy import insert, make_url, select, text

import zap.controllers.answers as recorded
from zap.app import create_app
from zap.cli import serving
from zap.db.api_keys import list_keys, remove_all_keys
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.serving_counts import CountedMinute, span_begin, write_minutes
from zap.db.schema import upgrade
from zap.db.tables import ModelVersion, utc_now
from zap.monitoring.answer_counts import LOG, PREDICT, Counts
from zap.server import connections
from zap.settings import Settings

KEY = "a key of the tests"
BAD_ROW = {"temperature_c": 99, "user_typ": "Commuter"}
ERRORS = "application/problem+json"
TEXTS = ("application/x-ndjson", "text/event-stream", "application/zip")
# What is shown instead of a file.
ZIPPED = "a ZIP file: README.txt, and a file of NDJSON for each table"
FILE = Path(recorded.__file__).with_suffix(".json")
NUMBER = re.compile(r"\d[\d,.:T+-]*")


class Answers:
    """Ask the routes of an app, and note what they answer."""

    def __init__(self, client):
        self.client = client
        self.document = client.get("/openapi.json").json()
        self.routes = {
            operation["operationId"]: (method, path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }
        self.found = {}
        self.wrong = []

    def ask(self, operation, status, name=None, *, number=None, group=None, **options):
        """Ask a route; the number in its path is that of its example. Return its reply, noted under a name."""
        method, path, described = self.routes[operation]
        for one in described.get("parameters", ()):
            if one["in"] == "path":
                path = path.replace(f"{{{one['name']}}}", str(one["example"] if number is None else number))
        reply = self.client.request(method, path, **options)
        if reply.status_code != status:
            self.wrong.append((operation, status, reply.status_code, reply.text[:500]))
        self.note(group or operation, reply, name)
        kind = reply.headers.get("content-type", TEXTS[0])
        return None if kind.startswith(TEXTS) else reply.json()

    def note(self, group, reply, name=None):
        kind = reply.headers.get("content-type", "").partition(";")[0]
        if not kind:
            return
        value = reply.json() if kind in {"application/json", ERRORS} else reply.text
        if kind == "application/zip":
            value = ZIPPED
        if kind == ERRORS:
            plain = "wrong parameter" if "errors" in value else value["title"].lower()
            name = value["type"].rpartition(":")[2] if ":zap:" in value["type"] else plain
        by_kind = self.found.setdefault(group, {}).setdefault(str(reply.status_code), {})
        by_kind.setdefault(kind, {})[name] = value

    def body(self, operation, kind="application/json"):
        examples = self.routes[operation][2]["requestBody"]["content"][kind]["examples"]
        return {name: example["value"] for name, example in examples.items()}


def successes(asked):
    for name, body in asked.body("predict").items():
        answer = asked.ask("predict", 200, name, json=body)
    sample = next(iter(asked.body("predict").values()))
    explained = asked.ask("predict", 200, "with an explanation", json=sample | {"explain": True})
    for kind in ("application/json", "application/x-ndjson"):
        ((name, body),) = asked.body("predictBatch", kind).items()
        content = json.dumps(body) if kind == "application/json" else body
        asked.ask("predictBatch", 200, name, content=content, headers={"Content-Type": kind})
    rows = {"inputs": [body := next(iter(asked.body("predict").values())), body | BAD_ROW]}
    asked.ask("predictBatch", 200, "with on_error=skip", json=rows, params={"on_error": "skip"})
    asked.ask("getPrediction", 200, "logged by a training")
    # The follower needs a moment.
    until(lambda: asked.client.get(f"/predictions/{answer['prediction_id']}").json()["outcome"])
    asked.ask("getPrediction", 200, "the answer to a request", number=answer["prediction_id"])
    asked.ask("explainPrediction", 200, "a driver of the sample history", number=explained["prediction_id"])
    asked.ask("explainPrediction", 200, "a driver whom zap does not know", number=answer["prediction_id"])
    asked.ask("getQuality", 200, "before the first outcome")
    asked.ask("listPredictions", 200, "the newest answer", params={"limit": 1})
    for name, body in asked.body("reportChargingSessions").items():
        asked.ask("reportChargingSessions", 200, name, json=body)
    asked.ask("getDataQuality", 200, "a day without requests", params={"from": "2026-03-02", "to": "2026-03-02"})
    served_minute(asked)
    asked.ask("getTrainingRun", 200, "finished")
    asked.ask("followTrainingRun", 200, "a training that has ended")
    asked.ask("listTrainingRuns", 200, "the newest runs")
    alarms(asked)
    asked.ask("live", 200, "alive")
    asked.ask("ready", 200, "ready")


def served_minute(asked):
    """Write what another process has answered in a minute, and read the figures."""
    engine = asked.client.app.state.engine
    times = {13: 22, 14: 30, 16: 9, 30: 1}
    counts = {PREDICT: Counts(2, 0, 3 * 10**8, times), LOG: Counts(0, 0, 10**8, {8: 60, 20: 2})}
    write_minutes(engine, "another", [CountedMinute(1, span_begin(utc_now() - timedelta(minutes=2), 1), counts)])
    asked.ask("getServing", 200, "two minutes after the first request")
    metrics(asked)


def metrics(asked):
    """Read the metrics, and show a few of them, because all of them are 20 kB."""
    reply = asked.client.get("/metrics")
    if reply.status_code != 200:
        asked.wrong.append(("getMetrics", 200, reply.status_code, reply.text[:500]))
    shown = "zap_predictions_total", "zap_log_failures_total", "zap_database_up"
    lines = [line for line in reply.text.splitlines(keepends=True) if any(name in line for name in shown)]
    asked.found.setdefault("getMetrics", {}).setdefault("200", {})["text/plain"] = {
        "some of the metrics": "".join(lines)
    }


def alarms(asked):
    """Raise an alarm, as a monitor would, and say who has seen it."""
    message = (
        "The version is worse than its test promised for 212 drivers of the last 7 days: its Brier score (0 to 1,"
        " halved) is 0.412, and 0.351 at least. Up to 0.340 was no harm."
    )
    with write_transaction(asked.client.app.state.engine) as connection:
        evidence = {"check": "promise", "window": 7, "drivers": 212}
        raise_alarm(connection, "harm", "version 1", message, evidence, posts=False)
    asked.ask("listAlarms", 200, "an alarm that stands")
    for name, body in asked.body("acknowledgeAlarm").items():
        asked.ask("acknowledgeAlarm", 200, name, json=body)
    asked.ask("listAudit", 200, "an alarm that somebody has seen", params={"limit": 1})


def trainings(asked):
    """Train, cancel a training, and change the version in production."""
    asked.ask("trainModel", 200, "as it is", json={})
    begun = asked.ask("trainModel", 202, "with Prefer: respond-async", json={}, headers={"Prefer": "respond-async"})
    asked.ask("trainModel", 409, json={})
    asked.ask("cancelTrainingRun", 200, "cancelled", number=begun["run_id"])
    asked.ask("cancelTrainingRun", 409, number=begun["run_id"])
    asked.ask("promoteModel", 200, "version 1 again", number=1, json={})
    asked.ask("rollBack", 200, "back to the version before", json={})
    asked.ask("listModels", 200, "two versions")
    asked.ask("listPromotions", 200, "with a rollback")
    asked.ask("getModel", 200, "a version", number=1)
    # Version 2 serves.
    for name, body in asked.body("tryModel").items():
        begun = asked.ask("tryModel", 200, name, number=1, json=body)
        asked.ask(
            "endTrial", 200, "ended by a person", number=1, json={"who": "ann", "why": "a newer version is ready"}
        )
    asked.ask("getTrial", 200, "a trial that has ended", number=begun["trial_id"])
    asked.ask("listTrials", 200, "the newest trials")


def drivers(asked):
    """Export and erase a driver whom no example names."""
    with asked.client.app.state.engine.connect() as connection:
        last = connection.scalar(text('SELECT max(user_id) FROM "Users"'))
    asked.ask("exportDriver", 200, "a driver", number=last)
    asked.ask("eraseDriver", 200, "a driver", number=last)


def refusals(asked):
    """Send what no client should send."""
    much, texts = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    posts = ("predict", "predictBatch", "reportChargingSessions", "trainModel", "promoteModel", "rollBack")
    trials = ("tryModel", "endTrial")
    for operation in (*posts, "acknowledgeAlarm", *trials):
        asked.ask(operation, 400, content="{", headers=much)
        asked.ask(operation, 415, content="hello", headers=texts)
    asked.ask("predictBatch", 400, content='a,"b', headers={"Content-Type": "text/csv"})
    limits = {"predict": 2**16, "reportChargingSessions": 2**21, "trainModel": 2**16, "promoteModel": 2**16}
    limits |= dict.fromkeys(("rollBack", "acknowledgeAlarm", *trials), 2**16) | {"predictBatch": 2**24}
    for operation, most in limits.items():
        asked.ask(operation, 413, content=b" " * (most + 1), headers=much)
    body = next(iter(asked.body("predict").values()))
    asked.ask("predict", 422, json=body | BAD_ROW)
    asked.ask("predictBatch", 422, json={"inputs": [body, body | BAD_ROW]})
    asked.ask("reportChargingSessions", 422, json={"session_id": 1_000_009, "user_id": "ann", "charger_typ": "AC"})
    report = next(iter(asked.body("reportChargingSessions").values()))
    of_another = {"user_id": "ann", "charging_start_time": "2026-03-05T08:00:00"}
    asked.ask("reportChargingSessions", 409, json=report | of_another)
    asked.ask("trainModel", 422, json={"test_share": 0.9})
    for operation in ("promoteModel", "rollBack", "acknowledgeAlarm", "endTrial"):
        asked.ask(operation, 422, json={"wo": "ann"})
    asked.ask("tryModel", 422, json={"weeks": 60, "on_better": "serve"})
    asked.ask("followTrainingRun", 422, headers={"Last-Event-ID": "newest"})
    for operation in (
        "listModels",
        "listPromotions",
        "listTrainingRuns",
        "listAlarms",
        "listTrials",
        "listPredictions",
        "listAudit",
    ):
        asked.ask(operation, 400, params={"limit": "0"})
    asked.ask("predictBatch", 400, json={"inputs": []}, params={"on_error": "ignore"})
    asked.ask("getQuality", 400, params={"by": "hour"})
    asked.ask("getQuality", 404, params={"version": 10**9})
    asked.ask("getDataQuality", 400, params={"from": "2024-02-02", "to": "2024-02-01"})
    found = ("getPrediction", "explainPrediction", "getModel", "getTrainingRun", "followTrainingRun", "getTrial")
    for operation in found:
        asked.ask(operation, 404, number=10**9)
    for operation in (
        "promoteModel",
        "cancelTrainingRun",
        "removeChargingSession",
        "eraseDriver",
        "exportDriver",
        *trials,
    ):
        asked.ask(operation, 404, number=10**9)
    asked.ask("acknowledgeAlarm", 404, number=10**9, json={"who": "ann"})
    asked.ask("live", 421, group=recorded.EVERY, headers={"Host": "zap.example.com"})
    asked.ask("live", 415, group=recorded.EVERY, headers={"Content-Encoding": "gzip"})
    repeated_header(asked)
    asked.ask("rollBack", 403, group=recorded.CHANGES, headers={"Origin": "https://other.example.com"})


def repeated_header(asked):
    """Send a header twice, which httpx would join into one."""
    sent = []
    twice = [(b"host", b"127.0.0.1"), (b"x-api-key", b"one"), (b"x-api-key", b"two")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": "/health/live",
        "raw_path": b"/health/live",
        "query_string": b"",
        "headers": twice,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
    }

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    with asked.client.portal() as portal:
        portal.call(asked.client.app, scope, receive, send)
    start, body = sent
    asked.note(recorded.EVERY, httpx.Response(start["status"], headers=start["headers"], content=body["body"]))


def ended_trainings(trained, asked):
    """Cancel a training whose client waits, kill one, and give one too little time."""

    def train(status, end):
        waiting = threading.Thread(target=asked.ask, args=("trainModel", status), kwargs={"json": {}})
        waiting.start()
        while (run := asked.client.get("/training-runs").json()["training_runs"][0])["status"] != "running":
            time.sleep(0.05)
        end(run["run_id"])
        waiting.join()

    def kill(_):
        os.kill(until(lambda: trainings_of(os.getpid()))[0], signal.SIGKILL)

    with client_of(trained) as client:
        asked.client = client
        train(409, lambda run_id: asked.client.delete(f"/training-runs/{run_id}"))
        train(500, kill)
    with client_of(trained.model_copy(update={"training_seconds": 1})) as client:
        asked.client = client
        asked.ask("trainModel", 500, json={"hyper_parameters": {"n_estimators": 10_000}})


def failures(asked):
    """Promote a version that was pruned, then take the log and a table away."""
    engine = asked.client.app.state.engine
    with engine.begin() as connection:
        version = dict(connection.execute(select(ModelVersion.__table__)).mappings().first())
        version |= {"model_version": 99, "status": "candidate", "artefact": None}
        connection.execute(insert(ModelVersion.__table__).values(version))
    asked.ask("promoteModel", 409, number=99, json={})
    asked.ask("tryModel", 409, number=99, json={})
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TRIGGER no_log BEFORE INSERT ON predictions BEGIN SELECT RAISE(ABORT, 'x'); END")
        )
    body = next(iter(asked.body("predict").values()))
    asked.ask("predict", 503, json=body)
    asked.ask("predictBatch", 503, json={"inputs": [body]})
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE promotions"))
    asked.ask("listPromotions", 503, group=recorded.DATABASE)


def no_right(asked, url, models_dir):
    """Report a session, and ask for the versions, as a role of PostgreSQL that may not.

    Args:
        asked: notes the answers.
        url: of a PostgreSQL database at head.
        models_dir: an empty folder.
    """
    report = next(iter(asked.body("reportChargingSessions").values()))
    with (
        role_in(url, *LEAST_RIGHTS) as as_role,
        client_of(Settings(database_url=as_role, models_dir=models_dir)) as client,
        connect(url, autocommit=True) as admin,
    ):
        asked.client = client
        asked.ask("reportChargingSessions", 403, group=recorded.DATABASE, json=report)
        # A server starts only if its role may read all tables.
        admin.execute(f"REVOKE SELECT ON promotions FROM {make_url(as_role).username}")
        asked.ask("listPromotions", 403, group=recorded.DATABASE)
    return asked.found


def keys(asked, trained):
    """Make, rotate and end keys, and send keys that are wrong or may not do what they ask for."""
    # A key in a file of the repository would alarm those who look for keys.
    shown = f"zap_Gb2tYw8R_{'x' * 36}"
    with client_of(trained.model_copy(update={"api_key": SecretStr(KEY)})) as client:
        asked.client = client
        asked.ask("listModels", 401, group=recorded.KEYS)
        client.headers["X-API-Key"] = KEY
        for name, body in asked.body("createKey").items():
            made = asked.ask("createKey", 200, name, json=body)
        asked.ask("createKey", 409, json=body)
        asked.ask("createKey", 422, json={"name": "backend", "scopes": ["everything"]})
        for name, body in asked.body("rotateKey").items():
            old, made = made, asked.ask("rotateKey", 200, name, number=made["key_id"], json=body)
        asked.ask("rotateKey", 409, number=old["key_id"])
        asked.ask("rotateKey", 422, number=made["key_id"], json={"keep": "for ever"})
        asked.ask("listKeys", 200, "the newest key", params={"limit": 1})
        asked.ask("listKeys", 400, params={"limit": "0"})
        asked.ask("revokeKey", 200, "revoked", number=made["key_id"])
        for operation in ("rotateKey", "revokeKey"):
            asked.ask(operation, 404, number=made["key_id"])
        much, texts = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
        for operation in ("createKey", "rotateKey"):
            asked.ask(operation, 400, content="{", headers=much)
            asked.ask(operation, 415, content="hello", headers=texts)
            asked.ask(operation, 413, content=b" " * (2**16 + 1), headers=much)
    with client_of(trained) as client:
        asked.client = client
        engine = client.app.state.engine
        client.headers["X-API-Key"] = make_key(engine, "admin")
        client.app.state.api_keys.look(engine)
        (admin,) = (one for one in list_keys(engine, 10) if one["name"] == "admin")
        asked.ask("revokeKey", 409, number=admin["key_id"])
        client.headers["X-API-Key"] = make_key(engine, "predict", requests_per_second=0.01)
        client.app.state.api_keys.look(engine)
        for status in (403, 429):
            asked.ask("listModels", status, group=recorded.KEYS)
        remove_all_keys(engine)
    for operation in ("createKey", "rotateKey"):
        for value in asked.found[operation]["200"]["application/json"].values():
            value["key"] = shown


def quick_answers(asked, trained, empty):
    """Ask for everything that needs no training.

    Args:
        asked: asks an app with the sample history.
        trained: the settings of this app.
        empty: settings of a database at head without rows.
    """
    refusals(asked)
    this = asked.client
    keys(asked, trained)
    this.app.state.api_keys.look(this.app.state.engine)
    with client_of(empty) as client:
        asked.client = client
        asked.ask("predict", 503, json={})
        asked.ask("predictBatch", 503, json={"inputs": [{}]})
        asked.ask("ready", 503, "before the first training")
        asked.ask("trainModel", 422, json={})
        asked.ask("rollBack", 409, json={})
    asked.client = this
    failures(asked)
    return asked.found


def client_of(settings):
    return TestClient(create_app(settings), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def unlike(shown, real, place="#"):
    """Return in what two answers differ apart from numbers, times, ids and values that are null in one of them."""
    number = isinstance(shown, (int, float)) and isinstance(real, (int, float))
    if shown is None or real is None:
        return []
    if type(shown) is not type(real) and not number:
        return [f"{place}: {type(shown).__name__}, but {type(real).__name__}"]
    if isinstance(shown, dict):
        # The months of a history are names too.
        one, other = ({NUMBER.sub("#", name): value for name, value in some.items()} for some in (shown, real))
        fixed = ["type", "title", "status"] if "title" in one else []
        found = [f"{place}/{name}" for name in one.keys() ^ other.keys()]
        found += [f"{place}/{name}" for name in fixed if one.get(name) != other.get(name)]
        both = sorted(one.keys() & other.keys())
        return found + [said for name in both for said in unlike(one[name], other[name], f"{place}/{name}")]
    if isinstance(shown, list) and shown and real:
        return unlike(shown[0], real[0], f"{place}/-")
    return []


def main():
    with tempfile.TemporaryDirectory() as folder:
        trained, empty = (
            Settings(database_url=f"sqlite:///{folder}/{name}.sqlite", models_dir=Path(folder) / name / "models")
            for name in ("trained", "empty")
        )
        for settings in (trained, empty):
            upgrade(settings.database_url)
        # A newcomer who sends an example to a server of `make serve` gets the answer that is shown.
        engine = create_engine(trained.database_url)
        serving._bootstrap(engine, trained)
        engine.dispose()
        with client_of(trained) as client:
            asked = Answers(client)
            successes(asked)
            trainings(asked)
            drivers(asked)
            ended_trainings(trained, asked)
        with client_of(trained) as client:
            asked.client = client
            quick_answers(asked, trained, empty)
        with postgresql_database() as url:
            upgrade(url)
            no_right(asked, url, Path(folder) / "no-right")
    refused = connections._problem(HTTPStatus.REQUEST_TIMEOUT, "no data of the body arrived for 30 seconds")
    problem = json.loads(refused.partition(b"\r\n\r\n")[2])
    asked.found[recorded.BODIES] = {"408": {ERRORS: {problem["title"].lower(): problem}}}
    FILE.write_text(json.dumps(asked.found, indent=1, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8")
    sys.exit("\n".join(map(str, asked.wrong)))


if __name__ == "__main__":
    main()
