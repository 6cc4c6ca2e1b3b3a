"""The present that requests see: of every program's sessions, in time on all workers, without a query."""

import json
import threading
import time
from datetime import timedelta

import httpx
import pytest
from conftest import client_of
from databases import connect
from faults.asking import IN_TIME, ask
from servers import until
from sqlalchemy import event, select, text

from zap.db.engine import create_engine, write_transaction
from zap.db.tables import Prediction
from zap.db.versions.production import Production

# As the manual says.
FRESH_SECONDS = 2
TYPE, OTHER = "Level 2", "Level 1"
ID = 7_000_001


class Database:
    """The database of a server, as another program uses it."""

    def __init__(self, settings):
        self.settings = settings
        self.engine = create_engine(settings.database_url)
        production = Production(self.engine, settings.model_file)
        production.refresh()
        self.predictor = production.predictor

    def run(self, statement, **values):
        with write_transaction(self.engine) as connection:
            connection.execute(text(statement), values)

    def add(self, session_id, minutes_ago=10, type_=TYPE):
        self.run(
            'INSERT INTO "ChargingSessions" (session_id, charger_type, charging_start_time) VALUES (:id, :type, :start)',
            id=session_id,
            type=type_,
            start=self.at(minutes_ago),
        )

    def at(self, minutes_ago):
        """Return a wall time as another program stores it."""
        return str((self.settings.wall_now() - timedelta(minutes=minutes_ago)).replace(microsecond=0))

    def seen(self, prediction_id):
        """Return the numbers of open sessions that a stored prediction has seen."""
        table = Prediction.__table__
        with self.engine.connect() as connection:
            row = connection.execute(
                select(table.c.features, table.c.probabilities).where(table.c.prediction_id == prediction_id)
            ).one()
        probabilities = row.probabilities
        if isinstance(probabilities, str):
            probabilities = json.loads(probabilities)
        features = self.predictor.explain(row.features, probabilities)["features"]
        return tuple(features[f"open[{name}]"] for name in (TYPE, OTHER))


@pytest.fixture
def database(trained):
    database = Database(trained)
    # So that the present is known.
    database.add(ID, minutes_ago=20)
    yield database
    database.engine.dispose()


def test_every_worker_sees_every_change_within_two_seconds(serve, trained, database, good_request):
    server = serve(trained, "--workers", "2").wait()
    request = good_request | {"charging_start_time": database.at(-15)}

    def seen():
        """Return what requests see two seconds later. Each has its own connection, so both workers get some."""
        time.sleep(FRESH_SECONDS)
        replies = ask(server.url, request, 16)
        assert {status for status, _, _ in replies} == {200}, replies
        return {database.seen(body["prediction_id"]) for _, body, _ in replies}

    assert seen() == {(1, 0)}
    database.add(ID + 1)
    database.add(ID + 2)
    assert seen() == {(3, 0)}
    report = {"session_id": ID + 3, "user_id": "u", "charger_type": OTHER, "charging_start_time": database.at(8)}
    assert httpx.post(f"{server.url}/charging-sessions", json=report).status_code == 200
    assert seen() == {(3, 1)}
    report |= {"charging_end_time": database.at(4)}
    assert httpx.post(f"{server.url}/charging-sessions", json=report).status_code == 200
    assert seen() == {(3, 0)}
    database.run('UPDATE "ChargingSessions" SET charger_type = :other WHERE session_id = :id', other=OTHER, id=ID + 1)
    assert seen() == {(2, 1)}
    assert httpx.delete(f"{server.url}/charging-sessions/{ID + 2}").status_code in {200, 204}
    database.run('DELETE FROM "ChargingSessions" WHERE session_id = :id', id=ID)
    assert seen() == {(0, 1)}


def test_a_warm_request_asks_the_database_nothing(trained, database, good_request):
    request = good_request | {"charging_start_time": database.at(-15), "user_id": "sample-1-00003"}
    with client_of(trained) as client:
        until(lambda: client.app.state.recent_sessions._windows or client.post("/predict", json=request).is_error)
        asked = []

        @event.listens_for(client.app.state.engine, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_):
            # Watches ask beside the requests.
            if not threading.current_thread().name.startswith("watch"):
                asked.append(statement)

        client.post("/predict", json=request)
        asked.clear()
        reply = client.post("/predict", json=request)

    assert database.seen(reply.json()["prediction_id"]) == (1, 0)
    assert asked
    assert [statement for statement in asked if "ChargingSessions" in statement or "session_changes" in statement] == []


def test_a_request_whose_present_cannot_be_read_is_refused_in_time(serve, trained_postgresql, good_request):
    """Lock the sessions: what is known grows old, so requests wait, and give up in time. Then all is as before."""
    database = Database(trained_postgresql)
    database.add(ID)
    server = serve(trained_postgresql).wait()
    request = good_request | {"charging_start_time": database.at(-15)}
    old = good_request | {"charging_start_time": "2024-02-01T10:00:00"}
    assert {ask(server.url, one, 1)[0][0] for one in (request, old)} == {200}

    with connect(trained_postgresql.database_url) as other:
        other.execute('LOCK TABLE "ChargingSessions" IN ACCESS EXCLUSIVE MODE')
        time.sleep(FRESH_SECONDS)
        replies = ask(server.url, request, 8) + ask(server.url, old, 8)
        other.execute(
            'INSERT INTO "ChargingSessions" (session_id, charger_type, charging_start_time) VALUES (%s, %s, %s)',
            (ID + 1, TYPE, database.at(5)),
        )

    assert {(status, seconds < IN_TIME) for status, _, seconds in replies} == {(503, True)}
    begun = time.monotonic()
    until(lambda: ask(server.url, request, 1)[0][0] == 200, seconds=20)
    until(lambda: ask(server.url, old, 1)[0][0] == 200, seconds=20)
    assert time.monotonic() - begun < 10
    time.sleep(FRESH_SECONDS)
    _, body, _ = ask(server.url, request, 1)[0]
    assert database.seen(body["prediction_id"])[0] == 2
    database.engine.dispose()
