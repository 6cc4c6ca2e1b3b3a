"""Refused requests, rows and reports are counted by field and reason, without their values."""

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import histories
import pytest
from conftest import client_of
from servers import until
from sqlalchemy import select, text

from zap.db.monitoring_tables import DataQualityDay
from zap.formats import request, session_report
from zap.formats.refusal_reasons import REASONS
from zap.server import lifespan
from zap.settings import Settings

SECRET = "a-secret-value"
REPORT = histories.START | {"session_id": 1_000_001, "user_id": "driver of this test"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def sqlite_client(_trained_sqlite, tmp_path_factory):
    """Yield a client of one app for all tests that only count their own refused requests."""
    folder = tmp_path_factory.mktemp("refusals")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    # The follower counts answered requests in the same table, at a moment of its own.
    database = f"sqlite:///{folder / 'zap.sqlite'}"
    settings = Settings(database_url=database, models_dir=folder / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


def stored(engine):
    with engine.connect() as connection:
        rows = connection.execute(select(DataQualityDay.__table__)).all()
    found = Counter()
    for _, subject, field, what, number in rows:
        found[subject, field, what] += number
    return found


def counted(client, ask):
    """Return the reply to a request, and what the request adds to the counts of refusals."""
    engine, refusals = client.app.state.engine, client.app.state.refusals
    refusals.write()
    before = stored(engine)
    reply = ask()
    refusals.write()
    return reply, {key: number - before[key] for key, number in stored(engine).items() if number > before[key]}


# A change of a good request, and the field and the reason that are counted.
CHANGES = [
    ({"temperature_c": 99.5}, ("temperature_c", "out_of_range")),
    ({"temperature_c": 10**40}, ("temperature_c", "out_of_range")),
    ({"battery_capacity_kwh": 0}, ("battery_capacity_kwh", "out_of_range")),
    ({"temperature_c": SECRET}, ("temperature_c", "wrong_type")),
    ({"temperature_c": True}, ("temperature_c", "wrong_type")),
    ({"temperature_c": [SECRET]}, ("temperature_c", "wrong_type")),
    ({"battery_capacity_kwh": None}, ("battery_capacity_kwh", "null")),
    ({"user_type": None}, ("user_type", "null")),
    ({"user_type": "n/a"}, ("user_type", "null")),
    ({"user_type": ...}, ("user_type", "required")),
    ({"user_type": ..., "user_id": f"{SECRET}; must be 0 to 1"}, ("user_type", "required")),
    ({"user_type": SECRET}, ("user_type", "unknown")),
    ({"user_type": f"{SECRET}', which counts as null"}, ("user_type", "unknown")),
    ({"user_type": f"{SECRET}\"; must be ' appears more than once"}, ("user_type", "unknown")),
    ({"user_type": 3}, ("user_type", "wrong_type")),
    ({"user_type": "x" * 501}, ("user_type", "too_long")),
    ({"user_id": f"{SECRET}\n"}, ("user_id", "wrong_value")),
    ({"vehicle_id": -1}, ("vehicle_id", "out_of_range")),
    ({"vehicle_id": 1.5}, ("vehicle_id", "wrong_type")),
    ({"charging_start_time": SECRET}, ("charging_start_time", "wrong_value")),
    ({"charging_start_time": f"{SECRET} is not a field"}, ("charging_start_time", "wrong_value")),
    ({"charging_start_time": 5}, ("charging_start_time", "wrong_type")),
    ({"explain": "yes"}, ("explain", "wrong_type")),
    ({SECRET: 1}, ("other", "unknown_field")),
    ({"charger_type": SECRET}, ("other", "unknown_field")),
    ({"User Type": SECRET}, ("other", "unknown_field")),
    ({"~/ä": SECRET}, ("other", "unknown_field")),
]


@pytest.mark.parametrize(("change", "found"), CHANGES)
def test_a_wrong_value_is_counted(sqlite_client, good_request, change, found):
    sent = {name: value for name, value in (good_request | change).items() if value is not ...}

    reply, counts = counted(
        sqlite_client, lambda: sqlite_client.post("/predict", content=json.dumps(sent), headers=JSON)
    )
    rows = f"{json.dumps(good_request)}\n{json.dumps(sent)}\n"
    stream, of_rows = counted(
        sqlite_client,
        lambda: sqlite_client.post("/predict/batch", content=rows, headers={"Content-Type": "application/x-ndjson"}),
    )

    assert reply.status_code == 422
    assert stream.status_code == 200
    assert counts == of_rows == {("refused", "", "refused"): 1, ("refused", *found): 1}
    assert found[1] in REASONS


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        (b"", 400, ("", "not_json")),
        (b"{", 400, ("", "not_json")),
        (b"\xff", 400, ("", "not_json")),
        (b"[1]", 422, ("", "wrong_type")),
        (b"true", 422, ("", "wrong_type")),
        (b'{"temperature_c": NaN}', 400, ("", "not_json")),
        (b'{"user_id": "\\ud800"}', 400, ("", "not_json")),
        (b" " * 70_000, 413, ("", "too_large")),
        (b'{"temperature_c": 1, "temperature_c": 2}', 422, ("temperature_c", "repeated")),
    ],
)
def test_a_wrong_body_is_counted(sqlite_client, body, status, found):
    reply, counts = counted(sqlite_client, lambda: sqlite_client.post("/predict", content=body, headers=JSON))

    assert reply.status_code == status
    assert counts["refused", "", "refused"] == 1
    assert counts["refused", *found] == 1


def test_a_wrong_media_type_is_counted(sqlite_client):
    for path, subject in (("/predict", "refused"), ("/charging-sessions", "refused_reports")):
        reply, counts = counted(
            sqlite_client, lambda path=path: sqlite_client.post(path, data={"temperature_c": SECRET})
        )

        assert reply.status_code == 415
        assert counts == {(subject, "", "refused"): 1, (subject, "", "wrong_media_type"): 1}


REPORTS = [
    ({"energy_consumed_kwh": "12"}, ("energy_consumed_kwh", "wrong_type")),
    ({"energy_consumed_kwh": 10**6}, ("energy_consumed_kwh", "out_of_range")),
    ({"session_id": ...}, ("session_id", "required")),
    ({"session_id": -3}, ("session_id", "out_of_range")),
    ({"session_id": [SECRET]}, ("session_id", "wrong_type")),
    ({"charger_type": ...}, ("charger_type", "required")),
    ({"charger_type": "NULL"}, ("charger_type", "null")),
    ({"charging_end_time": "1999-01-01T00:00:00"}, ("charging_end_time", "wrong_value")),
    ({"charging_end_time": SECRET}, ("charging_end_time", "wrong_value")),
    ({"time_of_day": SECRET}, ("other", "unknown_field")),
    ({"user_type": SECRET}, ("other", "unknown_field")),
]


@pytest.mark.parametrize(("change", "found"), REPORTS)
def test_a_wrong_report_is_counted(sqlite_client, change, found):
    sent = {name: value for name, value in (REPORT | change).items() if value is not ...}

    for body in (sent, [REPORT | {"session_id": 1_000_002}, sent]):
        reply, counts = counted(sqlite_client, lambda body=body: sqlite_client.post("/charging-sessions", json=body))

        assert reply.status_code == 422
        assert counts == {("refused_reports", "", "refused"): 1, ("refused_reports", *found): 1}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ([], ("", "required")),
        ([{}] * 1001, ("", "too_large")),
        (3, ("", "wrong_type")),
        ([REPORT, 3], ("", "wrong_type")),
    ],
)
def test_a_wrong_list_of_sessions_is_counted(sqlite_client, body, found):
    _, counts = counted(sqlite_client, lambda: sqlite_client.post("/charging-sessions", json=body))

    assert counts == {("refused_reports", "", "refused"): 1, ("refused_reports", *found): 1}


def test_the_id_of_another_session_is_counted(sqlite_client):
    assert sqlite_client.post("/charging-sessions", json=REPORT).status_code == 200
    taken = REPORT | {"user_id": SECRET, "charging_start_time": "2026-03-01T01:00:00"}

    reply, counts = counted(sqlite_client, lambda: sqlite_client.post("/charging-sessions", json=taken))

    assert reply.status_code == 409
    assert counts == {("refused_reports", "", "refused"): 1, ("refused_reports", "session_id", "taken"): 1}
    twice, counts = counted(sqlite_client, lambda: sqlite_client.post("/charging-sessions", json=[REPORT, REPORT]))
    assert twice.status_code == 422
    assert counts["refused_reports", "session_id", "repeated"] == 1


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("kind", ["application/json", "text/csv"])
def test_each_refused_row_of_a_batch_is_counted_once(sqlite_client, good_request, on_error, kind):
    bad = [good_request | {"temperature_c": 99 + place, "user_type": SECRET} for place in range(150)]
    rows = [good_request, *bad, good_request]
    if kind == "text/csv":
        lines = [",".join(good_request), *(",".join(map(str, row.values())) for row in rows)]
        body = "\n".join(lines)
    else:
        body = json.dumps({"inputs": rows})

    _, counts = counted(
        sqlite_client,
        lambda: sqlite_client.post(f"/predict/batch?on_error={on_error}", content=body, headers={"Content-Type": kind}),
    )

    # All of them, and not only the hundred errors that a reply shows.
    assert counts == {
        ("refused", "", "refused"): 150,
        ("refused", "temperature_c", "out_of_range"): 150,
        ("refused", "user_type", "unknown"): 150,
    }


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        ("{", "application/json", ("", "not_json")),
        ('{"inputs": 3}', "application/json", ("other", "wrong_type")),
        (f'{{"{SECRET}": 3, "inputs": []}}', "application/json", ("other", "unknown_field")),
        ("", "text/csv", ("", "not_csv")),
        (f"temperature_c,{SECRET}\n1,2\n", "text/csv", ("other", "unknown_field")),
        ("temperature_c,user_type\n1\n", "text/csv", ("", "not_csv")),
        ("temperature_c,temperature_c\n1,2\n", "text/csv", ("temperature_c", "repeated")),
        ("x\n", "application/x-ndjson", ("", "not_json")),
        (f'"{"x" * 70_000}"\n', "application/x-ndjson", ("", "too_large")),
        ("[]\n", "application/x-ndjson", ("", "wrong_type")),
    ],
)
def test_a_wrong_batch_is_counted(sqlite_client, body, kind, found):
    _, counts = counted(
        sqlite_client, lambda: sqlite_client.post("/predict/batch", content=body, headers={"Content-Type": kind})
    )

    assert counts == {("refused", "", "refused"): 1, ("refused", *found): 1}


def test_what_is_answered_or_asked_elsewhere_is_not_counted(sqlite_client, good_request):
    def ask():
        assert sqlite_client.post("/predict", json=good_request).status_code == 200
        assert sqlite_client.post("/train-model", json={SECRET: 1}).status_code == 422
        assert sqlite_client.get("/predictions/0").status_code == 404
        assert sqlite_client.get("/nowhere").status_code == 404
        assert sqlite_client.put("/predict", json={}).status_code == 405
        assert sqlite_client.post("/predict", json={}, headers={"Host": "evil.example"}).status_code == 421

    assert counted(sqlite_client, ask)[1] == {}


def test_no_value_and_no_unknown_name_is_stored(client, good_request):
    for change, _ in CHANGES:
        sent = {name: value for name, value in (good_request | change).items() if value is not ...}
        client.post("/predict", content=json.dumps(sent), headers=JSON)
    for change, _ in REPORTS:
        client.post(
            "/charging-sessions", json={name: value for name, value in (REPORT | change).items() if value is not ...}
        )
    client.app.state.refusals.write()

    with client.app.state.engine.connect() as connection:
        rows = connection.execute(text("SELECT subject, field, found, count FROM data_quality_days")).all()
    refused = [row for row in rows if row[0].startswith("refused")]
    assert {row[1] for row in refused} <= {*request.NAMES, *session_report.FIELDS, "", "other"}
    assert {row[2] for row in refused} <= REASONS | {"refused"}
    assert {row[1:] for row in refused if row[2] == "refused"} == {
        ("", "refused", len(CHANGES)),
        ("", "refused", len(REPORTS)),
    }
    assert SECRET not in json.dumps([list(row) for row in rows])


def test_two_servers_count_at_once(trained, good_request):
    def ask(client):
        for _ in range(20):
            assert client.post("/predict", json=good_request | {"temperature_c": 99}).status_code == 422
            client.app.state.refusals.write()

    with client_of(trained) as one, client_of(trained) as two:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(ask, (one, two)))
        found = stored(one.app.state.engine)

    assert found["refused", "temperature_c", "out_of_range"] == 40
    assert found["refused", "", "refused"] == 40


def test_they_are_written_every_few_seconds_and_the_rest_at_the_end(trained_sqlite, good_request, monkeypatch, at_head):
    monkeypatch.setattr(lifespan, "REFUSALS_SECONDS", 0.05)
    bad = good_request | {"temperature_c": 99}
    with client_of(trained_sqlite) as client:
        client.post("/predict", json=bad)
        until(lambda: stored(client.app.state.engine)["refused", "", "refused"] == 1)
    monkeypatch.undo()

    with client_of(trained_sqlite) as client:
        client.post("/predict", json=bad)
        client.post("/predict", json=bad)

    assert stored(at_head(trained_sqlite.database_url))["refused", "", "refused"] == 3


def test_counts_that_cannot_be_written_are_kept(client, good_request):
    refusals, engine = client.app.state.refusals, client.app.state.engine
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE data_quality_days RENAME TO away"))
    client.post("/predict", json=good_request | {"temperature_c": 99})
    with pytest.raises(Exception, match="data_quality_days"):
        refusals.write()
    client.post("/predict", json=good_request | {"temperature_c": 99})
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO data_quality_days"))

    refusals.write()
    refusals.write()

    assert stored(engine) == {("refused", "", "refused"): 2, ("refused", "temperature_c", "out_of_range"): 2}
