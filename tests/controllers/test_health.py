"""GET /health/live and /health/ready."""

import time

import pytest
from sqlalchemy import insert, select, text, update

from zap.db.engine import write_transaction
from zap.db.tables import ModelVersion
from zap.ml.verdict import sample_in_words


def test_live_touches_nothing(client):
    with client.app.state.engine.begin() as connection:
        connection.execute(text("DROP TABLE predictions"))

    reply = client.get("/health/live")

    assert (reply.status_code, reply.json()["status"]) == (200, "alive")


def test_ready_works(client):
    reply = client.get("/health/ready")

    assert reply.status_code == 200
    assert reply.json() == {
        "status": "ready",
        "checks": {"database": "ok", "log": "ok", "model": "ok"},
        "model_version": 1,
        "refused_version": None,
        "model_warning": sample_in_words(1),
        "model_file_restored": None,
        "refused_requests": 0,
    }


@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [(None, "it was missing"), (b"", "it was empty"), (b"strange", "bytes that zap did not write")],
)
def test_a_model_file_that_was_restored_is_shown(client, bytes_, reason):
    file = client.app.state.settings.model_file
    good = file.read_bytes()
    file.unlink()
    if bytes_ is not None:
        file.write_bytes(bytes_)

    end = time.monotonic() + 15
    while (restored := client.get("/health/ready").json()["model_file_restored"]) is None:
        assert time.monotonic() < end
        time.sleep(0.05)

    assert file.read_bytes() == good
    assert reason in restored["reason"]
    assert restored["model_version"] == 1
    assert client.get("/health/ready").status_code == 200


def test_a_version_that_should_serve_but_cannot_is_shown(client, good_request):
    engine = client.app.state.engine
    with write_transaction(engine) as connection:
        version = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
        connection.execute(update(ModelVersion).values(status="archived"))
        del version["model_version"]
        connection.execute(insert(ModelVersion), version | {"artefact": b"damaged"})
    client.app.state.production.refresh()

    ready = client.get("/health/ready")

    assert ready.status_code == 200
    assert ready.json()["model_version"] == 1
    assert ready.json()["refused_version"].startswith("version 2: the artefact's SHA-256 is ")
    assert client.post("/predict", json=good_request).json()["model_version"] == 1


def test_without_a_model_it_is_not_ready_and_says_so(untrained_client):
    reply = untrained_client.get("/health/ready")

    assert reply.status_code == 503
    assert reply.json()["checks"]["database"] == "ok"
    assert "train" in reply.json()["checks"]["model"]


def test_a_log_that_cannot_be_written_is_named(client):
    with client.app.state.engine.begin() as connection:
        connection.execute(text("ALTER TABLE predictions RENAME TO gone"))

    reply = client.get("/health/ready")

    assert reply.status_code == 503
    assert reply.json()["checks"] == {"database": "ok", "log": "the log cannot be written to", "model": "ok"}


def test_a_database_that_is_not_at_head_is_named(client):
    with client.app.state.engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))

    reply = client.get("/health/ready")

    assert reply.status_code == 503
    assert "zap db upgrade" in reply.json()["checks"]["database"]


def test_asking_leaves_no_trace_in_the_log(client, good_request):
    first = client.post("/predict", json=good_request).json()
    for _ in range(3):
        client.get("/health/ready")
    second = client.post("/predict", json=good_request).json()

    assert (second["input_id"], second["prediction_id"]) == (
        first["input_id"] + 1,
        first["prediction_id"] + 1,
    )
