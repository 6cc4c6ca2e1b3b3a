"""GET /quality/data: what was found in requests and reported sessions, by field and day."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import histories
import pytest

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.data_quality_days import REQUESTS, apply, day_of, read_days, remove_days
from zap.db.tables import utc_now

REPORT = histories.START | {"session_id": 1_000_001, "user_id": "driver of this test"}
END = {"charging_end_time": "2026-03-02T20:00:00", "energy_consumed_kwh": 20.0}
TODAY = day_of(utc_now())


def quality(client, **query):
    reply = client.get("/quality/data", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


def send(client, *sessions):
    reply = client.post("/charging-sessions", json=list(sessions))
    assert reply.status_code == 200, reply.text


def test_it_works(client, good_request):
    assert client.post("/predict", json=good_request | {"temperature_c": 99}).status_code == 422
    assert client.post("/charging-sessions", json={"session_id": 1}).status_code == 422
    client.app.state.refusals.write()
    with write_transaction(client.app.state.engine) as connection:
        apply(connection, REQUESTS, {TODAY: {("", "answered"): 3, ("user_id", "missing"): 1}})

    report = quality(client)

    assert (report["from"], report["to"]) == (str(TODAY - timedelta(days=29)), str(TODAY))
    (day,) = report["days"]
    assert day == {"day": str(TODAY), **report["all_days"]}
    assert day["requests"] == {
        "answered": 3,
        "refused": 1,
        "refused_share": 0.25,
        "without_driver": 1,
        "without_driver_share": 1 / 3,
        "unknown_drivers": 0,
        "unknown_drivers_share": 0,
        "completed": 0,
        "completed_share": 0,
        "fields": [{"field": "user_id", "found": "missing", "count": 1, "share": 1 / 3}],
        "refusals": [{"field": "temperature_c", "reason": "out_of_range", "count": 1, "share": 1}],
    }
    assert day["sessions"]["refused"] == 1
    assert {one["field"] for one in day["sessions"]["refusals"]} == {"user_id", "charger_type", "charging_start_time"}


def test_a_session_is_counted_when_its_end_is_reported(untrained_client):
    def sessions():
        return quality(untrained_client)["all_days"]["sessions"]

    send(untrained_client, REPORT, REPORT | {"session_id": 1_000_002, "vehicle_id": 77})
    assert (sessions()["added"], sessions()["ended"], sessions()["fields"]) == (2, 0, [])

    for _ in range(2):
        # The second report changes nothing.
        send(untrained_client, {"session_id": 1_000_001, **END}, {"session_id": 1_000_002, **END})
    found = sessions()
    assert (found["added"], found["ended"]) == (2, 2)
    counts = {(one["field"], one["found"]): one["count"] for one in found["fields"]}
    assert counts["vehicle_id", "missing"] == counts["vehicle_id", "unknown"] == 1
    assert counts["charging_cost_usd", "missing"] == 2
    assert ("energy_consumed_kwh", "missing") not in counts

    # Values that are sent later do not change what was known at the end.
    send(untrained_client, {"session_id": 1_000_001, "charging_cost_usd": 3.0})
    assert sessions() == found


def test_a_refused_report_counts_no_session(untrained_client):
    bad = REPORT | {"session_id": 1_000_002, "energy_consumed_kwh": "x"}

    assert untrained_client.post("/charging-sessions", json=[REPORT | END, bad]).status_code == 422

    sessions = quality(untrained_client)["all_days"]["sessions"]
    assert (sessions["added"], sessions["ended"]) == (0, 0)


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ({}, 30),
        ({"to": "2026-03-02"}, 30),
        ({"from": "2026-03-02", "to": "2026-03-02"}, 1),
        ({"from": "2024-01-01", "to": "2024-12-31"}, 366),
    ],
)
def test_the_days_of_a_report(untrained_client, query, days):
    report = quality(untrained_client, **query)

    first, last = (TODAY.fromisoformat(report[name]) for name in ("from", "to"))
    assert (last - first).days + 1 == days


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "2026-02-30"},
        {"from": "2026-03-02T00:00:00"},
        {"from": "2026-03-02", "to": "2026-03-01"},
        {"from": "2024-01-01", "to": "2025-01-01"},
        {"from": "9999-12-31"},
    ],
)
def test_a_wrong_day_is_refused(untrained_client, query):
    reply = untrained_client.get("/quality/data", params=query)

    assert reply.status_code == 400
    assert [one["pointer"] for one in reply.json()["errors"]] == ["#/from"]


def test_the_first_days_of_the_calendar_are_days_too(untrained_client):
    assert quality(untrained_client, to="0001-01-02")["from"] == "0001-01-01"


def test_counts_of_two_processes_add_up(database_url):
    engines = [create_engine(database_url) for _ in range(2)]
    fields = [(f"field {number}", "missing") for number in range(10)]

    def count(engine):
        order = fields if engine is engines[0] else fields[::-1]
        for _ in range(30):
            with write_transaction(engine) as connection:
                apply(connection, REQUESTS, {TODAY: dict.fromkeys(order, 2), TODAY - timedelta(days=1): {("", "x"): 1}})

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(count, engines))
    found = {(one.day, one.field): one.count for one in read_days(engines[0], TODAY - timedelta(days=1), TODAY)}
    with write_transaction(engines[0]) as connection:
        remove_days(connection, REQUESTS)
    after = read_days(engines[0], TODAY - timedelta(days=1), TODAY)
    for engine in engines:
        engine.dispose()

    assert found == {(TODAY - timedelta(days=1), ""): 60} | {(TODAY, field): 120 for field, _ in fields}
    assert after == []
