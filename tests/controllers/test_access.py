"""The API key: with ZAP_API_KEY set, whatever changes something needs it."""

import pytest
from litestar.testing import TestClient
from pydantic import SecretStr

from zap.app import create_app

KEY = "correct horse"


@pytest.fixture
def guarded(trained_sqlite):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)})
    with TestClient(create_app(settings)) as client:
        yield client


def test_it_works(guarded, good_request):
    assert guarded.post("/predict", json=good_request, headers={"X-API-Key": KEY}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/predict", "/train-model", "/charging-sessions", "/models/1/promote", "/models/rollback"]
)
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": KEY.upper()}])
def test_a_post_without_the_key_is_refused(guarded, good_request, path, headers):
    reply = guarded.post(path, json=good_request, headers=headers)

    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert KEY not in reply.text


def test_a_delete_without_the_key_is_refused(guarded):
    assert guarded.delete("/training-runs/1").status_code == 401
    assert guarded.delete("/training-runs/1", headers={"X-API-Key": KEY}).status_code == 409


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/docs", "/openapi.json", "/predictions/1", "/models", "/training-runs"]
)
def test_reading_needs_no_key(guarded, path):
    assert guarded.get(path).status_code == 200


def test_the_key_is_asked_for_before_the_body_is_read(guarded):
    assert guarded.post("/predict", content=b"nonsense").status_code == 401


def test_whatever_changes_something_shows_the_lock_in_the_docs(guarded, sqlite_client):
    document = guarded.get("/openapi.json").json()

    locked = {
        (method, path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation.get("security") == [{"ApiKey": []}]
    }
    changing = {(method, path) for path, methods in document["paths"].items() for method in methods if method != "get"}
    assert locked == changing
    assert len(locked) == 7
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert "securitySchemes" not in sqlite_client.get("/openapi.json").json().get("components", {})


def test_a_key_may_have_any_letters(trained_sqlite, good_request):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr("schlüssel")})
    with TestClient(create_app(settings)) as client:
        for key, status in (("schlüssel", 200), ("schlussel", 401)):
            # As curl sends it: the bytes of the terminal.
            reply = client.post("/predict", json=good_request, headers={"X-API-Key": key.encode()})
            assert reply.status_code == status
