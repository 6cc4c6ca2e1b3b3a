"""GET /metrics: what it says, in which format, in time also without the database, and never with a driver's name."""

import re
import threading
import time

import pytest
from conftest import client_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from pydantic import SecretStr
from sqlalchemy import text

from zap.controllers.metrics import chosen_format
from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.monitoring.metric_families import FAMILIES
from zap.server import database_metrics

# As Prometheus 2 sends it.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
OPENMETRICS, PLAIN_1, PLAIN = (
    f"{kind}; charset=utf-8"
    for kind in (
        "application/openmetrics-text; version=1.0.0", "text/plain; version=1.0.0", "text/plain; version=0.0.4"
    )
)  # fmt: skip


def scrape(client, accept=""):
    reply = client.get("/metrics", headers={"Accept": accept})
    assert reply.status_code == 200, reply.text
    return reply


def values(reply):
    """Return the samples of a reply by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in prometheus(reply.text)
        for sample in family.samples
    }


def value(client, name, **labels):
    return values(scrape(client)).get((name, *sorted(labels.items())))


@pytest.fixture
def _always_fresh(monkeypatch):
    """Read the database at each scrape."""
    monkeypatch.setattr(database_metrics, "FRESH_SECONDS", 0)
    monkeypatch.setattr(database_metrics, "QUALITY_SECONDS", 0)


@pytest.mark.usefixtures("_always_fresh")
def test_it_counts_what_was_answered(client, good_request):
    for _ in range(3):
        assert client.post("/predict", json=good_request | {"user_id": "driver-17"}).status_code == 200
    assert client.post("/predict", json=good_request | {"temperature_c": 99}).status_code == 422
    assert client.post("/predict/batch", json={"inputs": [good_request] * 5}).status_code == 200
    for n in range(3):
        assert client.get(f"/nowhere/driver-17/{n}").status_code == 404
        assert client.request(f"ODD{n}", "/health/live").status_code == 405
    assert client.head("/health/live").status_code == 200
    assert client.get("/predictions/1").status_code == 200
    with write_transaction(client.app.state.engine) as connection:
        raise_alarm(connection, "harm", "version 1", "m", None, posts=False)
        raise_alarm(connection, "of a newer zap", "", "m", None, posts=False)

    found = values(scrape(client))

    def requests(method, route, status):
        labels = ("method", method), ("route", route), ("status", status)
        return found.get(("zap_http_request_duration_seconds_count", *labels))

    assert requests("POST", "/predict", "200") == 3
    assert requests("POST", "/predict", "422") == 1
    assert requests("POST", "/predict", "503") == 0
    assert requests("POST", "/predict/batch", "200") == 1
    assert requests("HEAD", "/health/live", "200") == 1
    assert requests("GET", "/predictions/{prediction_id}", "200") == 1
    assert requests("GET", "none", "404") == 3
    assert requests("other", "/health/live", "405") or requests("other", "none", "405") == 3
    # The scrape itself has begun, and has no reply yet.
    assert found["zap_http_requests_in_progress",] == 1
    predicted = {key: n for key, n in found.items() if key[0] == "zap_predictions_total" and n}
    assert sum(predicted.values()) == 8
    assert {key[1] for key in predicted} == {("model_version", "1")}
    assert found["zap_log_commit_seconds_count",] == 4
    assert 0 < found["zap_log_commit_seconds_sum",] < 60
    assert found["zap_log_failures_total",] == 0
    assert found["zap_training_runs", ("status", "finished")] == 1
    assert time.time() - found["zap_last_training_timestamp_seconds",] < 24 * 3600
    assert found["zap_alarm_firing", ("kind", "harm")] == found["zap_alarm_firing", ("kind", "other")] == 1
    assert found["zap_alarm_firing", ("kind", "drift")] == 0
    assert found["zap_database_up",] == 1
    assert found["zap_database_size_bytes", ("part", "database")] > 100_000
    assert found["process_resident_memory_bytes", ("worker", "1")] > 10_000_000
    on_postgresql = client.app.state.engine.dialect.name == "postgresql"
    assert bool(found.get(("zap_database_connections",))) == on_postgresql
    assert bool(found.get(("zap_database_transactions_total", ("outcome", "committed")))) == on_postgresql
    assert ("zap_database_free_bytes",) not in found or not on_postgresql
    assert "driver-17" not in scrape(client).text


def test_each_bucket_has_the_times_below_its_bound(sqlite_client, good_request):
    for _ in range(20):
        assert sqlite_client.post("/predict", json=good_request).status_code == 200
    found = values(scrape(sqlite_client))

    name = "zap_http_request_duration_seconds"
    labels = ("method", "POST"), ("route", "/predict"), ("status", "200")
    bounds = sorted(
        (float(key[1][1]), n) for key, n in found.items() if key[0] == f"{name}_bucket" and key[2:] == labels
    )
    counts = [n for _, n in bounds]
    assert [bound for bound, _ in bounds][:2] == [0.0005, 0.001]
    assert counts == sorted(counts)
    assert counts[-1] == found[f"{name}_count", *labels] == 20
    mean = found[f"{name}_sum", *labels] / 20
    # Half of the times at least are below twice their mean.
    assert next(n for bound, n in bounds if bound >= 2 * mean) >= 10


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (PROMETHEUS_2, OPENMETRICS),
        ("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;q=0.2", PLAIN_1),
        ("", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        ("application/openmetrics-text;version=9.9.9", PLAIN),
        ("application/openmetrics-text;version=abc;q=x, ;;=,q", PLAIN),
        ("application/openmetrics-text;q=0, text/plain", PLAIN),
        ("application/json", PLAIN),
    ],
)
def test_the_client_chooses_the_format(accept, chosen):
    assert chosen_format(accept).content_type == chosen


def test_both_formats_say_the_same(sqlite_client, good_request):
    assert sqlite_client.post("/predict", json=good_request).status_code == 200
    plain, open_ = scrape(sqlite_client), scrape(sqlite_client, PROMETHEUS_2)

    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    assert open_.text.endswith("# EOF\n")
    assert "# UNIT zap_http_request_duration_seconds seconds\n" in open_.text
    families = {family.name: family for family in openmetrics(open_.text)}
    assert [*families] == [*FAMILIES]
    assert {name: family.type for name, family in families.items()} == {
        name: one.kind for name, one in FAMILIES.items()
    }
    said = {family.name for family in prometheus(plain.text)}
    assert said == {f"{name}_info" if one.kind == "info" else name for name, one in FAMILIES.items()}
    counts = [
        [sample.value for sample in family.samples if sample.labels["model_version"] == "1"]
        for family in (families["zap_predictions"], *prometheus(plain.text))
        if family.name in {"zap_predictions", "zap_predictions_total"}
    ]
    assert counts == [[1], [1]]


def test_it_needs_the_key(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"api_key": SecretStr("k" * 20)})) as client:
        assert client.get("/metrics").status_code == 401
        # As Prometheus sends it.
        assert client.get("/metrics", headers={"Authorization": f"Bearer {'k' * 20}"}).status_code == 200


@pytest.mark.usefixtures("_always_fresh")
def test_a_database_that_hangs_does_not_stall_a_scrape(sqlite_client, monkeypatch, good_request):
    assert sqlite_client.post("/predict", json=good_request).status_code == 200
    assert value(sqlite_client, "zap_database_up") == 1
    goes_on = threading.Event()
    real = database_metrics.database_figures
    monkeypatch.setattr(database_metrics, "database_figures", lambda *args: goes_on.wait(30) and real(*args))
    for most in (2.6, 0.6):
        begun = time.monotonic()
        found = values(scrape(sqlite_client))
        assert time.monotonic() - begun < most
        assert found["zap_database_up",] == 0
        # What is not in the database is known.
        assert found["zap_log_commit_seconds_count",] == 1
        assert not any(key[0] == "zap_training_runs" for key in found)
        time.sleep(2 if most > 1 else 0)
    goes_on.set()
    time.sleep(0.3)
    assert value(sqlite_client, "zap_database_up") == 1


@pytest.mark.usefixtures("_always_fresh")
def test_a_database_that_refuses_is_down(client, good_request, refuse_commits):
    refuse_commits(client.app.state.engine)
    assert client.post("/predict", json=good_request).status_code == 503
    assert value(client, "zap_log_failures_total") == 1
    with client.app.state.engine.begin() as connection:
        connection.execute(text("ALTER TABLE trials RENAME TO elsewhere"))

    assert value(client, "zap_database_up") == 0


def test_the_database_is_read_at_most_once_in_ten_seconds(sqlite_client, monkeypatch):
    times = []
    real = database_metrics.database_figures
    monkeypatch.setattr(database_metrics, "database_figures", lambda *args: times.append(1) or real(*args))

    for _ in range(5):
        assert value(sqlite_client, "zap_training_runs", status="finished") == 1

    assert len(times) == 1


def test_names_are_as_prometheus_wants_them():
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"(zap|process|python)_[a-z_]+[a-z]", name)
        assert not name.endswith("_total")
        assert name.endswith(family.unit)
        assert re.fullmatch(r"[^\n\\]+[^.\s]", family.says)
