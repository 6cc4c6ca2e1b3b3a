"""What /predict asks the database: the statements of one request, with and without work beside it."""

import re
import threading
from itertools import groupby

import pytest
from conftest import client_of
from sqlalchemy import event, text
from sqlalchemy.pool import Pool
from trialled import add_copies

# Two reads and a write, each with the beginning and the end of its transaction.
STATEMENTS = (
    "BEGIN", "SELECT Vehicles", "SELECT Users", "ROLLBACK",
    "BEGIN", "SELECT ChargingSessions", "ROLLBACK",
    "BEGIN IMMEDIATE", "INSERT inference_inputs", "INSERT predictions", "COMMIT",
)  # fmt: skip


@pytest.fixture
def noted():
    """Yield a list that gets the statements of all threads but the watches, as SQLite runs them."""
    statements = []

    def note(statement):
        if not threading.current_thread().name.startswith("watch"):
            statements.append(statement)

    def trace(connection, _):
        connection.set_trace_callback(note)

    event.listen(Pool, "connect", trace)
    yield statements
    event.remove(Pool, "connect", trace)


def in_short(statement):
    words = statement.replace('"', "").partition("=")[0]
    if words.startswith("SELECT"):
        return f"SELECT {re.search(r'FROM ([A-Za-z]+)', statement.replace(chr(34), ''))[1]}"
    return re.sub(r"^INSERT INTO (\w+).*", r"INSERT \1", words)


@pytest.mark.parametrize("beside", ["nothing", "a follower", "a trial"])
def test_the_statements_of_a_request_are_equal_whatever_else_runs(trained_sqlite, good_request, noted, beside):
    settings = trained_sqlite.model_copy(update={"follow": beside != "nothing"})
    with client_of(settings) as client:
        if beside == "a trial":
            add_copies(client.app.state.engine)
            assert client.post("/models/2/trial", json={}).status_code == 200
        with client.app.state.engine.connect() as connection:
            user_id = connection.scalar(text('SELECT min(user_id) FROM "ChargingSessions"'))
        # The first request after the start computes what later requests have in memory.
        assert client.post("/predict", json=good_request).status_code == 200
        # What runs beside may ask something at the same moment, but hardly five times.
        found = []
        for _ in range(5):
            client.app.state.driver_histories.forget({user_id})
            noted.clear()
            reply = client.post("/predict", json=good_request | {"user_id": user_id})
            # While another transaction writes, BEGIN IMMEDIATE is tried again and again.
            found.append([one for one, _ in groupby(map(in_short, list(noted)))])
            if found[-1] == list(STATEMENTS):
                break

    assert reply.json()["history_sessions"] > 0
    assert found[-1] == list(STATEMENTS)
