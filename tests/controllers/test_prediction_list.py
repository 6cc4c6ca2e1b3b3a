"""GET /predictions: the answers to requests, newest first, in pages."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from conftest import client_of
from listed import FIRST, add_answers
from sqlalchemy import insert

from zap.db.engine import write_transaction
from zap.db.log import prediction_list
from zap.db.log.prediction_list import Wanted, read_page
from zap.db.tables import Prediction, SessionTextId


@pytest.fixture
def client(untrained_client):
    """Return a client of the real app without a model, because the lists need no model."""
    return untrained_client


def listed(client, **query):
    reply = client.get("/predictions", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


def all_ids(client, **query):
    """Return the ids of all pages; a page may be empty and still have a next page."""
    ids, before = [], {}
    while True:
        page = listed(client, **query, **before)
        assert len(page["predictions"]) <= query.get("limit", 20)
        ids += [one["prediction_id"] for one in page["predictions"]]
        if page["next_before"] is None:
            return ids
        before = {"before": page["next_before"]}


def test_it_works(trained, good_request):
    with client_of(trained) as client:
        answer = client.post("/predict", json=good_request).json()
        (followed,) = add_answers(client.app.state.engine, [1])
        rows = listed(client)["predictions"]

    assert [one["prediction_id"] for one in rows] == [followed, answer["prediction_id"]]
    assert rows[0] == {
        "prediction_id": followed,
        "input_id": answer["input_id"] + 1,
        "request_timestamp": "2026-03-02T12:01:00+00:00",
        "user_id": "driver 1",
        "asked_at": "2026-03-02T13:01:00",
        "model_version": 1,
        "predicted_class": "Level 2",
        "probability": 0.75,
        "kind": "live",
        "outcome": "superseded",
        "actual_class": "DC Fast Charger",
        "session_id": "71",
        "lag_seconds": -60,
        "matched_by": "time",
        "superseded_by": 9_999_999,
    }
    # An answer that the follower has not read yet.
    assert rows[1]["request_timestamp"].endswith("+00:00")
    assert rows[1]["predicted_class"] == answer["predicted_class"]
    assert rows[1]["probability"] == max(answer["probabilities"].values())
    unknown = ("user_id", "asked_at", "kind", "outcome", "actual_class", "session_id", "lag_seconds", "matched_by")
    assert {rows[1][name] for name in unknown} == {None}


def test_the_predictions_of_trainings_are_not_listed(sqlite_client):
    assert listed(sqlite_client, limit=1000) == {"predictions": [], "next_before": None, "removed_before": None}


def test_a_session_has_the_text_of_its_reports(client):
    add_answers(client.app.state.engine, [0])
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(insert(SessionTextId).values(text_id="3f2504e0", session_id=70))

    assert [one["session_id"] for one in listed(client)["predictions"]] == ["3f2504e0"]


FILTERS = [
    ({"user_id": "driver 1"}, lambda n: n % 4 != 3 and n % 3 == 1),
    ({"user_id": "driver 1", "predicted_class": "Level 1"}, lambda n: n % 4 != 3 and n % 3 == 1 and n % 2 == 0),
    ({"version": 2}, lambda n: n // 50 == 1),
    ({"predicted_class": "Level 2"}, lambda n: n % 2 == 1),
    ({"predicted_class": "nothing"}, lambda _: False),
    ({"actual_class": "DC Fast Charger"}, lambda n: n % 4 < 2),
    ({"outcome": "waiting"}, lambda n: n % 4 == 2),
    ({"outcome": "any", "kind": "any"}, lambda _: True),
    ({"kind": "backtest"}, lambda n: n % 5 == 4),
    ({"from": "2026-03-02T12:10:00"}, lambda n: n >= 10),
    ({"from": "2026-03-02T13:10:00+01:00"}, lambda n: n >= 10),
    ({"to": "2026-03-02T12:10:00Z"}, lambda n: n < 10),
    ({"from": "2026-03-02", "to": "2026-03-03"}, lambda _: True),
    ({"from": "2026-03-03"}, lambda _: False),
    ({"to": "0001-01-01"}, lambda _: False),
    ({"to": "9999-12-31T23:59:59"}, lambda _: True),
    (
        {"from": "2026-03-02T12:20", "to": "2026-03-02T12:40", "outcome": "matched"},
        lambda n: 20 <= n < 40 and n % 4 == 0,
    ),
    (
        {"from": "2026-03-02T12:20", "user_id": "driver 0", "version": 1},
        lambda n: 20 <= n < 50 and n % 4 != 3 and n % 3 == 0,
    ),
]


@pytest.mark.parametrize("window", [7, 5_000])
def test_every_filter_finds_its_answers(client, window, monkeypatch):
    monkeypatch.setattr(prediction_list, "WINDOW", window)
    monkeypatch.setattr(prediction_list, "_DISORDER", timedelta(minutes=2))
    ids = add_answers(client.app.state.engine, range(100))

    for query, wanted in FILTERS:
        expected = [ids[number] for number in reversed(range(100)) if wanted(number)]
        assert all_ids(client, **query) == expected, query
        assert all_ids(client, **query, limit=3) == expected, query


def test_one_request_is_found_by_its_id(client):
    ids = add_answers(client.app.state.engine, range(5))
    row = listed(client, limit=3)["predictions"][-1]

    assert all_ids(client, input_id=row["input_id"]) == [ids[2]]
    assert all_ids(client, input_id=row["input_id"], user_id="driver 0") == []
    assert all_ids(client, input_id=10**15) == []


def test_a_driver_is_named_as_in_a_request(client):
    (one,) = add_answers(client.app.state.engine, [1])

    assert all_ids(client, user_id=" driver\u200b 1 ") == [one]


def test_a_driver_with_very_many_answers_is_found_in_windows(client, monkeypatch):
    monkeypatch.setattr(prediction_list, "_MOST_OF_A_DRIVER", 5)
    ids = add_answers(client.app.state.engine, range(30))

    assert all_ids(client, user_id="driver 2") == [ids[n] for n in reversed(range(30)) if n % 4 != 3 and n % 3 == 2]


def test_pages_have_no_gap_and_no_double_while_answers_arrive(client):
    engine = client.app.state.engine
    ids = add_answers(engine, range(2_500))
    found, before = [], 2**63 - 1
    while before is not None:
        page = read_page(engine, Wanted(), 300, before)
        found += [one["prediction_id"] for one in page.rows]
        before = page.before
        add_answers(engine, range(20), followed=False)

    assert found == ids[::-1]


def test_a_page_ends_when_its_time_is_over(client, monkeypatch):
    # A filter that finds nothing in a large log costs no more than the time of a page.
    monkeypatch.setattr(prediction_list, "WINDOW", 10)
    engine = client.app.state.engine
    ids = add_answers(engine, range(100))

    page = read_page(engine, Wanted(predicted_class="nothing"), 20, seconds=0)

    assert page.rows == []
    assert page.before == ids[-10]
    assert read_page(engine, Wanted(predicted_class="nothing"), 20, page.before, seconds=0).before == ids[-20]


def test_a_gap_in_the_ids_is_skipped(client):
    engine = client.app.state.engine
    (old,) = add_answers(engine, [0])
    with write_transaction(engine) as connection:
        values = {"prediction_timestamp": FIRST, "source": "inference", "predicted_class": "Level 1"}
        connection.execute(insert(Prediction).values(prediction_id=10**15, **values))

    assert all_ids(client) == [10**15, old]
    assert all_ids(client, predicted_class="Level 1", limit=1) == [10**15, old]


def test_times_that_are_nearly_in_order_are_all_found(client):
    engine = client.app.state.engine
    ids = []
    for number in range(120):
        # Each second answer has a time that is four minutes late.
        shift = timedelta(minutes=-4) if number % 2 else timedelta(0)
        ids += add_answers(engine, [number], first=FIRST + shift)

    expected = [ids[n] for n in reversed(range(120)) if 30 <= n - 4 * (n % 2) < 60]
    assert all_ids(client, **{"from": "2026-03-02T12:30", "to": "2026-03-02T13:00"}, limit=7) == expected


WRONG_TIMES = (
    *("yesterday", "0001-01-01T00:00:00+14:00", "2026-02-30", "2026-3-2"),
    *("2026-03-02T25:00", "2026", "x" * 1000),
)


@pytest.mark.parametrize(
    "query",
    [
        *({"from": text} for text in WRONG_TIMES),
        *({"limit": number} for number in (0, 1001, "x")),
        *({"before": number} for number in (0, 2**63, "x")),
        *({name: number} for name in ("version", "input_id") for number in (-1, 2**63, "x", "null")),
        {"from": "2026-03-02T12:00:01", "to": "2026-03-02T12:00"},
        {"outcome": "lost"},
        {"kind": ""},
        {"user_id": "x" * 501},
        {"user_id": "a\0b"},
        {"predicted_class": "a\nb"},
    ],
)
def test_a_wrong_parameter_is_refused(shared_client, query):
    reply = shared_client.get("/predictions", params=query)

    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    (error,) = reply.json()["errors"]
    assert error["pointer"] == f"#/{next(iter(query))}"


def test_the_plus_of_an_offset_need_not_be_encoded(client):
    add_answers(client.app.state.engine, range(20))

    ten = client.get("/predictions?limit=1000&from=2026-03-02T13:10:00+01:00").json()["predictions"]

    assert len(ten) == 10


def test_rows_of_other_programs_are_listed_as_they_are(client):
    values = {"source": "inference", "predicted_class": "Level 1"}
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(insert(Prediction).values(prediction_timestamp=FIRST, **values))

    (row,) = listed(client)["predictions"]

    assert row["predicted_class"] == "Level 1"
    assert {value for name, value in row.items() if name not in {"prediction_id", "predicted_class"}} == {None}
    assert json.dumps(row)


def test_the_stamps_of_older_rows_are_read_as_utc(sqlite_engine):
    # Written by a program that is older than zap.
    with write_transaction(sqlite_engine) as connection:
        connection.exec_driver_sql("INSERT INTO inference_inputs VALUES (7, '2025-11-09T22:26:36.760882', '{old: 1}')")
        connection.exec_driver_sql(
            "INSERT INTO predictions (prediction_id, input_id, prediction_timestamp, source, predicted_class)"
            " VALUES (8, 7, '2025-11-09T22:26:36.9', 'inference', 'Level 1')"
        )
    add_answers(sqlite_engine, [0])

    (row,) = read_page(sqlite_engine, Wanted(until=datetime(2025, 11, 9, 22, 27, tzinfo=UTC)), 20).rows

    assert row["request_timestamp"] == "2025-11-09T22:26:36.760882"
    assert read_page(sqlite_engine, Wanted(until=datetime(2025, 11, 9, 22, 26, tzinfo=UTC)), 20).rows == []
