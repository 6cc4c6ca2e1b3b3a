"""GET /health/live and /health/ready."""

from sqlalchemy import text


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
        "refused_requests": 0,
    }


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
