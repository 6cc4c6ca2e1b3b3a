"""GET /serving: answers a minute, times, errors and log delay over all processes, their restarts and their deaths."""

import http.client
import os
import shutil
import signal
import time
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import client_of
from databases import postgresql_database
from servers import until

from zap.controllers.exchange import SUBJECTS_OF_PATHS
from zap.db.engine import create_engine
from zap.db.monitoring.serving_counts import clock_of
from zap.flows.serving_figures import serving_figures
from zap.settings import Settings


@pytest.fixture
def _present_minute(monkeypatch):
    """Count the present minute too, so that a test need not wait for its end."""
    monkeypatch.setattr("zap.flows.serving_figures.WRITTEN_SECONDS", -60)


def written(client):
    minutes = client.app.state.serving_minutes
    minutes.end_minute()
    minutes.write()


def figures(client):
    reply = client.get("/serving")
    assert reply.status_code == 200, reply.text
    return {span["span"]: span for span in reply.json()["spans"]}


def routes(span):
    return {one["route"]: one for one in span["routes"]}


@pytest.mark.usefixtures("_present_minute")
def test_it_works(client, good_request):
    for _ in range(3):
        assert client.post("/predict", json=good_request).status_code == 200
    assert client.post("/predict", json=good_request | {"temperature_c": 99}).status_code == 422
    assert client.post("/predict/batch", json={"inputs": [good_request] * 5}).status_code == 200
    assert client.get("/nowhere").status_code == 404
    assert client.get("/health/live").status_code == 200
    assert client.head("/health/live").status_code == 200
    written(client)

    spans = figures(client)

    assert [*spans] == ["hour", "day", "week"]
    for span in spans.values():
        found = routes(span)
        assert {name: (one["answered"], one["refused"], one["failed"]) for name, one in found.items()} == {
            "predict": (3, 1, 0),
            "batch": (1, 0, 0),
            "training": (0, 0, 0),
            "other": (2, 1, 0),
        }
        assert (span["answered"], span["refused"], span["failed"]) == (6, 2, 0)
        assert 0.1 <= found["predict"]["p50_ms"] <= found["predict"]["p99_ms"] <= 10_000
        assert found["training"]["p50_ms"] is None
        assert span["log_delay"]["committed"] == 4
        assert 0.1 <= span["log_delay"]["p50_ms"] <= found["batch"]["p99_ms"] + found["predict"]["p99_ms"]
        # Zap counts since a moment ago, and the rate is of this time.
        minutes = (datetime.fromisoformat(span["to"]) - datetime.fromisoformat(span["from"])) / timedelta(minutes=1)
        assert minutes <= 2
        assert span["answered_per_minute"] == 6 / minutes
        assert sum(point["refused"] for point in span["points"]) == 2
        assert max(point["predict_p99_ms"] or 0 for point in span["points"]) == found["predict"]["p99_ms"]


def test_before_the_first_minute_is_over_nothing_is_counted(untrained_client):
    for span in figures(untrained_client).values():
        assert (span["answered"], span["answered_per_minute"], span["points"]) == (0, None, [])
        assert span["from"] == span["to"]


@pytest.mark.usefixtures("_present_minute")
def test_errors_are_counted(client, good_request, refuse_commits):
    refuse_commits(client.app.state.engine)
    assert client.post("/predict", json=good_request).status_code == 503
    written(client)

    span = figures(client)["hour"]

    assert (routes(span)["predict"]["failed"], span["failed"]) == (1, 1)
    assert (span["log_delay"]["committed"], routes(span)["predict"]["p99_ms"]) == (0, None)


@pytest.mark.usefixtures("_present_minute")
def test_the_end_of_a_server_writes_the_minute_that_is_not_over(trained, good_request):
    for _ in range(2):
        with client_of(trained.model_copy(update={"follow": False})) as client:
            assert client.post("/predict", json=good_request).status_code == 200

    with client_of(trained) as client:
        assert routes(figures(client)["hour"])["predict"]["answered"] == 2


def test_the_time_that_a_client_takes_to_send_its_body_does_not_count(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite).wait()
    body = httpx.Request("POST", server.url, json=good_request).read()
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    time.sleep(4)
    connection.send(body)
    assert connection.getresponse().status == 200
    connection.close()
    server.stop()

    assert routes_of(trained_sqlite)["predict"].p99_ms < 3_500


def test_the_routes_that_are_counted_by_themselves_are_routes(sqlite_client):
    assert {*SUBJECTS_OF_PATHS} <= {route.path_format for route in sqlite_client.app.routes}


def routes_of(settings):
    """Return the figures of the last hour by route, with the present minute."""
    engine = create_engine(settings.database_url)
    (hour, *_) = serving_figures(engine, clock_of(engine) + timedelta(seconds=80)).spans
    engine.dispose()
    return {one.route: one for one in hour.routes}


def ask(connection, body):
    """Ask on one connection, which one worker serves. Return the status; None if the worker has died."""
    try:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
    except ConnectionError:
        connection.close()
        return None
    return reply.status


@pytest.fixture
def both(trained_sqlite, _trained_postgresql, tmp_path):
    """Yield settings of a trained database on each engine."""
    template, folder = _trained_postgresql
    shutil.copytree(folder / "models", tmp_path / "postgresql")
    with postgresql_database(template) as url:
        yield trained_sqlite, Settings(database_url=url, models_dir=tmp_path / "postgresql")


def test_two_workers_one_of_which_is_killed(serve, both, good_request):
    """Wait once for the end of a minute, for both engines."""
    body = httpx.Request("POST", "http://none", json=good_request).read()
    found = {}
    for settings in both:
        server = serve(settings.model_copy(update={"workers": 2})).wait()
        for _ in range(20):
            connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port)
            assert ask(connection, body) == 200
            connection.close()
        found[server] = settings

    def shown(server):
        return routes(httpx.get(f"{server.url}/serving").json()["spans"][0])["predict"]

    # Both workers have written the minute a few seconds after its end.
    until(lambda: all(shown(server)["answered"] == 20 for server in found), 90)

    for server, settings in found.items():
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port)
        assert [ask(connection, body) for _ in range(5)] == [200] * 5
        os.kill(server.children()[0], signal.SIGKILL)
        until(lambda server=server: '"a worker died"' in server.log())
        # The minute of the killed worker is lost, and nothing else.
        answered = 26 if ask(connection, body) == 200 else 20
        connection.close()
        server.stop()
        assert routes_of(settings)["predict"].answered == answered
