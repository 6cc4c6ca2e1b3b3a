"""ZAP_ACCESS_LOG: one event for each request, with the template of its route and no value that a client has sent."""

from conftest import client_of
from keyed import make_key
from pydantic import SecretStr
from structlog.testing import capture_logs


def test_each_request_has_one_line(trained_sqlite, good_request):
    with client_of(trained_sqlite.model_copy(update={"access_log": True})) as client, capture_logs() as logs:
        logs.clear()
        replies = [
            client.post("/predict", json=good_request | {"user_id": "driver-17"}),
            client.get("/pages/drivers/driver-17?next=driver-17"),
            client.get("/driver-17"),
            client.head("/health/live"),
            client.request("DRIVER-17", "/health/live"),
            client.get("/health/live"),
        ]

    lines = [line for line in logs if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/predict", 200),
        ("GET", "/pages/drivers/{user_id}", replies[1].status_code),
        ("GET", None, 404),
        ("HEAD", "/health/live", 200),
        ("other", lines[4]["route"], 405),
        ("GET", "/health/live", 200),
    ]
    assert [line["bytes"] for line in lines] == [len(reply.content) for reply in replies]
    assert all(0 < line["ms"] < 60_000 and line["client"] for line in lines)
    assert "driver-17" not in str(lines).lower()


def test_a_line_names_the_key_and_not_its_secret(trained_sqlite, good_request):
    secret = "k" * 20
    settings = trained_sqlite.model_copy(update={"access_log": True, "api_key": SecretStr(secret)})
    with client_of(settings) as client, capture_logs() as logs:
        logs.clear()
        for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}, {"X-API-Key": "wrong" * 5}, {}):
            client.post("/predict", json=good_request, headers=headers)
            client.get("/models", headers=headers)

    lines = [(line["status"], line.get("key")) for line in logs if line["event"] == "request"]
    assert lines == [(200, "ZAP_API_KEY")] * 4 + [(401, None)] * 4
    assert secret not in str(logs)


def test_a_key_that_is_not_known_to_be_right_any_more_has_a_line_too(trained_sqlite, good_request):
    """Without the database, nobody knows whether a key was revoked. The line of the refusal must not fail with it."""
    with client_of(trained_sqlite.model_copy(update={"access_log": True})) as client, capture_logs() as logs:
        key = make_key(client.app.state.engine, "predict", name="backend")
        client.app.state.api_keys.look(client.app.state.engine)
        client.app.state.api_keys._look = lambda _: None
        client.app.state.api_keys._fresh_until = float("-inf")
        logs.clear()
        reply = client.post("/predict", json=good_request, headers={"X-API-Key": key})

    assert reply.status_code == 503
    (line,) = [line for line in logs if line["event"] == "request"]
    assert (line["status"], line["key"]) == (503, "backend")


def test_it_is_off_by_default(sqlite_client):
    with capture_logs() as logs:
        assert sqlite_client.get("/health/live").status_code == 200

    assert [line for line in logs if line["event"] == "request"] == []
