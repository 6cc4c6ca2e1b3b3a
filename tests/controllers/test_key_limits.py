"""The limits of a key: requests a second, and rows of batches a day."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import client_of
from keyed import make_key
from sqlalchemy import text

from zap.db.api_keys import revoke_keys
from zap.db.engine import write_transaction
from zap.db.key_days import take_rows


@pytest.fixture
def keyed(trained):
    """Return a function that makes a key, and yields a client that sends it, with a second server process."""
    settings = trained.model_copy(update={"follow": False})
    with client_of(settings) as client, client_of(settings) as other:

        def made(**options):
            key = make_key(client.app.state.engine, "predict", "read", **options)
            for one in (client, other):
                one.app.state.api_keys.look(client.app.state.engine)
                one.headers["X-API-Key"] = key
            return client, other

        yield made


def test_more_requests_than_the_limit_get_a_429(keyed, good_request):
    client, _ = keyed(requests_per_second=0.05)

    assert client.post("/predict", json=good_request).status_code == 200
    refused = client.post("/predict", json=good_request)

    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:zap:problem:limit-reached"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit-policy"] == '"requests";q=1;w=20'
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 20
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={wait}'
    # What needs no key has no limit.
    assert client.get("/health/live").status_code == 200


def batch(client, rows, request, kind="json", **options):
    if kind == "json":
        return client.post("/predict/batch", json={"inputs": [request] * rows}, **options)
    lines = "".join(json.dumps(request) + "\n" for _ in range(rows))
    return client.post("/predict/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}, **options)


def counted(client):
    with client.app.state.engine.connect() as connection:
        return connection.execute(text("SELECT batch_rows FROM key_days")).scalars().all()


def test_rows_of_batches_count_for_all_processes_and_only_if_they_are_answered(keyed, good_request):
    client, other = keyed(batch_rows_per_day=10)

    assert batch(client, 4, good_request).status_code == 200
    assert batch(other, 4, good_request, kind="ndjson").status_code == 200
    assert batch(client, 2, good_request | {"temperature_c": 999}).status_code == 422
    assert counted(client) == [8]
    refused = batch(other, 3, good_request)
    assert refused.status_code == 429
    assert refused.json()["detail"].endswith("a day (UTC), and 2 are left; this batch has 3")
    assert refused.headers["ratelimit-policy"] == '"batch-rows";q=10;w=86400'
    assert refused.headers["ratelimit"].startswith('"batch-rows";r=2;t=')
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert batch(client, 2, good_request).status_code == 200
    assert batch(client, 1, good_request, kind="ndjson").status_code == 429
    # Single requests are no batches.
    assert client.post("/predict", json=good_request).status_code == 200
    engine = client.app.state.engine
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE key_days SET day = '2026-03-01'"))
    assert batch(client, 10, good_request).status_code == 200
    assert counted(client) == [10]


def test_a_stream_ends_at_the_limit_and_when_its_key_is_revoked(keyed, good_request, monkeypatch):
    client, _ = keyed(batch_rows_per_day=1500)

    lines = batch(client, 2500, good_request, kind="ndjson").text.splitlines()

    assert len(lines) == 1001
    assert json.loads(lines[-1])["status"] == 429
    assert json.loads(lines[-1])["line"] == 1001

    client, _ = keyed(name="another")
    engine, keys = client.app.state.engine, client.app.state.api_keys
    find, groups = keys.with_id, []

    def with_id(key_id):
        if groups:
            revoke_keys(engine, "another")
            keys.look(engine)
        groups.append(key_id)
        return find(key_id)

    monkeypatch.setattr(keys, "with_id", with_id)
    lines = batch(client, 1010, good_request, kind="ndjson").text.splitlines()
    assert len(lines) == 1001
    assert json.loads(lines[-1])["status"] == 401


def test_many_processes_never_count_more_than_the_limit(engine):
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: take_rows(engine, "someone", 7, 100).is_taken, range(30)))

    assert sum(taken) == 14
    assert take_rows(engine, "someone", 2, 100).left == 0
