"""GET /predictions/{id}: the request, the answer, the version, the time."""

from pathlib import Path

import pytest
from conftest import client_of
from servers import until
from sqlalchemy import text

from zap.db.engine import write_transaction


def test_it_works(client, good_request):
    answer = client.post("/predict", json=good_request).json()

    record = client.get(f"/predictions/{answer['prediction_id']}").json()

    assert record.pop("prediction_timestamp").endswith("+00:00")
    assert record.pop("request_timestamp").endswith("+00:00")
    # It depends on the follower, which may not have looked yet.
    record.pop("outcome")
    assert record == {
        "prediction_id": answer["prediction_id"],
        "input_id": answer["input_id"],
        "source": "inference",
        "predicted_class": answer["predicted_class"],
        "actual_class": None,
        "probabilities": answer["probabilities"],
        "model_version": 1,
        "request": good_request,
    }


def test_a_row_of_a_training_has_no_request(client):
    record = client.get("/predictions/1").json()

    assert (record["source"], record["input_id"], record["request"], record["outcome"]) == ("train", None, None, None)
    assert record["actual_class"]


@pytest.mark.parametrize("session_id", [5, "3f2504e0-4f89-41d3-9a0c-0305e82c3301"])
def test_it_shows_what_happened_then(trained, good_request, session_id):
    with client_of(trained) as client:
        shows_what_happened(client, good_request, session_id)


def outcome(client, prediction_id, status):
    """Return the outcome of an answer if it has this status."""
    told = client.get(f"/predictions/{prediction_id}").json()["outcome"]
    return told if told and told["status"] == status else None


def shows_what_happened(client, good_request, session_id):
    asked = [client.post("/predict", json=good_request | {"user_id": "U"}).json()["prediction_id"] for _ in range(2)]
    start = good_request["charging_start_time"]
    report = {"session_id": session_id, "user_id": "U", "charger_type": "Level 2", "charging_start_time": start}
    client.post("/charging-sessions", json=report)
    # The second answer supersedes the first one, so it is waited for.
    first, last = (
        until(lambda one=one, status=status: outcome(client, one, status))
        for one, status in zip(asked, ("superseded", "matched"), strict=True)
    )

    assert last == {
        "status": "matched",
        "kind": "live",
        "asked_at": start,
        "actual_class": "Level 2",
        "session_id": str(session_id),
        "lag_seconds": 0,
        "matched_by": "time",
        "superseded_by": None,
    }
    assert first == last | {"status": "superseded", "superseded_by": asked[1]}


@pytest.mark.parametrize(
    "number", [0, -1, 10**9, 2**63 - 1, 2**63, 10**40, "x", "1.5", "1_0", "+5", "%201", "%D9%A1", "01"]
)
def test_what_is_not_there_is_a_404(shared_clients, number):
    reply = shared_clients.get(f"/predictions/{number}")

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_a_database_that_does_not_answer_is_a_503(trained_sqlite, tmp_path):
    with client_of(trained_sqlite, raise_server_exceptions=False) as client:
        client.app.state.engine.dispose()
        path = Path(trained_sqlite.url.database)
        path.write_bytes(b"")
        path.with_name(f"{path.name}-wal").unlink(missing_ok=True)

        reply = client.get("/predictions/1")

    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert "SELECT" not in reply.text


def test_rows_that_are_older_than_zap_are_shown_as_they_are(sqlite_client):
    # The stamps of such rows have no zone, and the logged text may be no JSON.
    with write_transaction(sqlite_client.app.state.engine) as connection:
        connection.execute(text("INSERT INTO inference_inputs VALUES (777, '2025-11-09T22:26:36.760882', '{old: 1}')"))
        connection.execute(
            text(
                "INSERT INTO predictions (prediction_id, input_id, prediction_timestamp, source, predicted_class)"
                " VALUES (888888, 777, '2025-11-09T22:26:36.9', 'inference', 'Level 1')"
            )
        )

    record = sqlite_client.get("/predictions/888888").json()

    assert record["request_timestamp"] == "2025-11-09T22:26:36.760882"
    assert record["request"] == "{old: 1}"
    assert record["model_version"] is None
    assert record["probabilities"] is None
