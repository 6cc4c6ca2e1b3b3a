"""POST /predict: logged, then answered."""

import json
import threading
import time

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import client_of, counted
from histories import add_sessions, session_row
from sqlalchemy import select, text

import zap
from zap.db.tables import ChargingSession, InferenceInput, Prediction
from zap.flows import prediction
from zap.ml.inference import Predictor


def counts(app):
    return counted(app, InferenceInput), counted(app, Prediction)


def test_it_works(client, good_request, rows):
    before = counts(client.app)

    reply = client.post("/predict", json=good_request)

    assert reply.status_code == 200
    answer = reply.json()
    assert list(answer["probabilities"]) == ["DC Fast Charger", "Level 1", "Level 2"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["predicted_class"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answer["model_version"] == 1
    assert counts(client.app) == (before[0] + 1, before[1] + 1)
    request, prediction = rows(client.app, InferenceInput)[-1], rows(client.app, Prediction)[-1]
    assert request["input_id"] == answer["input_id"] == prediction["input_id"]
    assert prediction["prediction_id"] == answer["prediction_id"]
    assert prediction["source"] == "inference"
    assert prediction["actual_class"] is None
    assert prediction["probabilities"] == answer["probabilities"]
    assert prediction["predicted_class"] == answer["predicted_class"]
    assert prediction["model_version"] == 1
    assert request["request_timestamp"] <= prediction["prediction_timestamp"]
    assert request["request_timestamp"].utcoffset().total_seconds() == 0


def test_the_request_is_logged_as_it_was_sent(client, good_request, rows):
    body = json.dumps(good_request | {"vehicle_model": "Citroën ë-C4"}, indent=3, ensure_ascii=False) + "\n"

    assert (
        client.post("/predict", content=body.encode(), headers={"Content-Type": "application/json"}).status_code == 200
    )

    assert rows(client.app, InferenceInput)[-1]["input_data_json"] == body


def test_a_known_driver_fills_in_what_is_left_out(client, good_request, rows):
    with client.app.state.engine.connect() as connection:
        user, battery, age, model, user_type = connection.execute(
            text(
                "SELECT v.user_id, battery_capacity_kwh, vehicle_age_years, vehicle_model, user_type"
                ' FROM "Vehicles" v JOIN "Users" u ON u.user_id = v.user_id ORDER BY v.vehicle_id LIMIT 1'
            )
        ).one()
    # Before the driver's first session.
    start = {"charging_start_time": "2001-05-01T18:00:00"}
    session = {
        name: good_request[name] for name in ("state_of_charge_start", "distance_driven_km", "temperature_c")
    } | start
    whole = session | {
        "battery_capacity_kwh": battery, "vehicle_age_years": age, "vehicle_model": model, "user_type": user_type
    }  # fmt: skip

    by_user = client.post("/predict", json=session | {"user_id": user}).json()
    by_vehicle = client.post("/predict", json=session | {"vehicle_id": 1}).json()
    in_full = client.post("/predict", json=whole).json()

    assert by_user["probabilities"] == by_vehicle["probabilities"] == in_full["probabilities"]
    # The request stays what the client sent.
    assert "user_type" not in rows(client.app, InferenceInput)[-3]["input_data_json"]


@pytest.mark.parametrize(
    ("named", "missing", "says"),
    [
        ({"user_id": "nobody"}, "user_type", "because the table Users does not have the driver 'nobody'"),
        (
            {"user_id": "nobody"},
            "battery_capacity_kwh",
            "because the table Vehicles has no vehicle, or several vehicles, of",
        ),
        ({"vehicle_id": 999}, "vehicle_age_years", "because the table Vehicles does not have the vehicle 999"),
        ({"vehicle_id": 999}, "user_type", "because the table Vehicles does not have the vehicle 999"),
        ({"user_id": "nobody", "vehicle_id": 1}, "user_type", "Users does not have the driver 'nobody'"),
        (
            {"user_id": "sample-1-00003", "vehicle_id": 999},
            "vehicle_age_years",
            "Vehicles does not have the vehicle 999",
        ),
        ({}, "user_type", "is required: type of the driver"),
    ],
)
def test_an_unknown_driver_or_vehicle_is_named_beside_the_missing_field(
    shared_clients, good_request, named, missing, says
):
    del good_request[missing]

    reply = shared_clients.post("/predict", json=good_request | named)

    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert error["pointer"] == f"#/{missing}"
    assert says in error["detail"]


def test_without_a_model_it_says_how_to_get_one(untrained_client, good_request):
    reply = untrained_client.post("/predict", json=good_request)

    assert reply.status_code == 503
    assert "zap train" in reply.json()["detail"]
    assert counts(untrained_client.app) == (0, 0)


@pytest.mark.parametrize("table", ["inference_inputs", "predictions"])
def test_when_the_log_cannot_be_written_nothing_is_answered_and_nothing_half_written(client, good_request, table):
    before = counts(client.app)
    with client.app.state.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO gone"))

    reply = client.post("/predict", json=good_request)

    assert reply.status_code == 503
    assert reply.json()["type"] == "urn:zap:problem:log-unavailable"
    assert reply.headers["retry-after"] == "1"
    assert "gone" not in reply.text
    with client.app.state.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE gone RENAME TO {table}"))
    assert counts(client.app) == before


def test_a_commit_that_fails_is_no_answer(client, good_request, refuse_commits):
    # Both rows are written, and then the database refuses the commit.
    before = counts(client.app)
    refuse_commits(client.app.state.engine)

    reply = client.post("/predict", json=good_request)

    assert reply.status_code == 503
    assert counts(client.app) == before


def test_many_requests_at_once_are_each_logged_once(client, good_request, rows):
    answers = []

    def ask():
        for _ in range(10):
            answers.append(client.post("/predict", json=good_request).json())  # noqa: PERF401

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    logged = {(row["prediction_id"], row["input_id"]) for row in rows(client.app, Prediction) if row["input_id"]}
    assert logged == {(answer["prediction_id"], answer["input_id"]) for answer in answers}
    assert len(logged) == 80


def test_answers_are_the_estimators_to_the_bit(client, good_request):
    frame = pd.DataFrame(
        [
            good_request
            | {"vehicle_model": None, "user_id": None, "charging_start_time": pd.Timestamp("2024-05-01 18:00")}
        ]
    )
    history = zap.read_history(client.app.state.settings.database_url)

    answer = client.post("/predict", json=good_request | {"charging_start_time": "2024-05-01T18:00:00"}).json()

    model = joblib.load(client.app.state.settings.model_file)
    expected = model.predict_proba(frame, history=history)[0]
    assert np.array(list(answer["probabilities"].values())).tobytes() == expected.tobytes()


# The driver's past.

DRIVER = "sample-1-00003"


@pytest.fixture
def add_session(client):
    """Adds a session as somebody with SQL would."""

    def add(start, charger_type="Level 1", driver=DRIVER):
        add_sessions(client.app.state.engine, session_row(driver, charger_type, start))

    return add


def ask(client, body, **more):
    reply = client.post("/predict", json=body | more)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_what_a_driver_used_before_counts(client, good_request):
    known, nobody = (ask(client, good_request, user_id=user) for user in (DRIVER, "nobody"))

    assert known["history_sessions"] > 5
    assert known["confidence"] == "normal"
    assert nobody["history_sessions"] == 0
    assert nobody["confidence"] == "low"
    assert known["probabilities"] != nobody["probabilities"]
    # A driver of whom nothing is known is as one who is not named.
    assert nobody["probabilities"] == ask(client, good_request)["probabilities"]


def test_confidence_is_normal_from_five_earlier_sessions_on(client, good_request, add_session):
    for number in range(6):
        answer = ask(client, good_request, user_id="new", charging_start_time=f"2030-01-0{number + 1}T12:00:00")
        assert answer["history_sessions"] == number
        assert answer["confidence"] == ("low" if number < 5 else "normal")
        add_session(f"2030-01-0{number + 1}T12:00:00", driver="new")
        client.app.state.driver_histories.forget(["new"])


def test_a_session_that_anybody_adds_counts_within_two_seconds(client, good_request, add_session):
    before = ask(client, good_request, user_id=DRIVER)
    add_session("2024-06-01T12:00:00")
    added = time.monotonic()

    while (after := ask(client, good_request, user_id=DRIVER))["history_sessions"] == before["history_sessions"]:
        assert time.monotonic() - added < 2
        time.sleep(0.02)

    assert after["history_sessions"] == before["history_sessions"] + 1
    assert after["probabilities"] != before["probabilities"]


def test_a_session_that_is_reported_counts_at_once(client, good_request):
    before = ask(client, good_request, user_id=DRIVER)
    session = {
        "session_id": 900001, "user_id": DRIVER, "charger_type": "Level 1", "charging_start_time": "2024-06-01T12:00:00"
    }  # fmt: skip

    assert client.post("/charging-sessions", json=session).status_code == 200
    started = ask(client, good_request, user_id=DRIVER)
    end = {"session_id": 900001, "charging_end_time": "2024-06-01T14:00:00", "energy_consumed_kwh": 500}
    assert client.post("/charging-sessions", json=end).status_code == 200
    ended = ask(client, good_request, user_id=DRIVER)

    assert started["history_sessions"] == ended["history_sessions"] == before["history_sessions"] + 1
    assert len({json.dumps(one["probabilities"]) for one in (before, started, ended)}) == 3


def test_an_earlier_start_is_answered_from_the_sessions_before_it(client, good_request):
    now = ask(client, good_request, user_id=DRIVER)
    with client.app.state.engine.connect() as connection:
        sessions = ChargingSession.__table__.c
        mine = select(sessions.charging_start_time).where(sessions.user_id == DRIVER)
        starts = sorted(connection.scalars(mine))
    assert now["history_sessions"] == len(starts)

    for place in (0, 1, len(starts) // 2, len(starts) - 1):
        at = starts[place].isoformat()
        assert ask(client, good_request, user_id=DRIVER, charging_start_time=at)["history_sessions"] == place
    # And the newest are not forgotten over it.
    assert ask(client, good_request, user_id=DRIVER)["history_sessions"] == len(starts)


def test_every_way_leads_to_the_same_answer(client, good_request):
    # A body may arrive in pieces, and its content type may have parameters.
    body = json.dumps(good_request).encode()
    kind = {"Content-Type": "application/json"}

    replies = [
        client.post("/predict", content=body, headers=kind),
        client.post("/predict", content=iter([body[:20], body[20:]]), headers=kind),
        client.post("/predict", content=body, headers={"Content-Type": "application/json; charset=utf-8"}),
    ]

    assert [reply.status_code for reply in replies] == [200] * 3
    assert len({reply.headers["content-type"] for reply in replies}) == 1
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3
    answers = [reply.json() for reply in replies]
    assert (
        len({answer.pop("input_id") for answer in answers}) == len({one.pop("prediction_id") for one in answers}) == 3
    )
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("way", [bytes, lambda body: iter([body[:1], body[1:]])])
def test_a_body_that_is_too_large_is_refused_on_every_way(shared_client, way):
    body = b'{"user_id": "' + b"x" * 65536 + b'"}'

    refused = shared_client.post("/predict", content=way(body), headers={"Content-Type": "application/json"})

    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")


def test_the_row_that_was_scored_is_stored(client, good_request, rows):
    answer = ask(client, good_request, user_id=DRIVER)

    stored = rows(client.app, Prediction)[-1]
    row = np.frombuffer(stored["features"], dtype="<f8")
    model = joblib.load(client.app.state.settings.model_file)
    assert len(row) == len(model.columns_)
    assert row[model.columns_.index("temperature_c")] == good_request["temperature_c"]
    assert row[model.columns_.index("sessions")] == answer["history_sessions"]
    assert model.probabilities(row[None])[0].tolist() == list(answer["probabilities"].values())
    # A training's own rows have none.
    assert {one["features"] for one in rows(client.app, Prediction) if one["source"] == "train"} == {None}


@pytest.mark.parametrize("spelt", [str.upper, str.lower, lambda name: f"\u00a0{name.swapcase()}\u200b "])
def test_a_known_name_in_another_spelling_gives_the_same_row(client, good_request, rows, spelt):
    models = client.app.state.production.predictor.contract["categories"]["vehicle_model"]
    exact = good_request | {"vehicle_model": models[-1]}
    body = exact | {name: spelt(exact[name]) for name in ("user_type", "vehicle_model")}
    lines = {"content": json.dumps(body), "headers": {"Content-Type": "application/x-ndjson"}}

    for path, sent in (
        ("/predict", {"json": exact}),
        ("/predict", {"json": body}),
        ("/predict/batch", {"json": {"inputs": [body]}}),
        ("/predict/batch", lines),
    ):
        assert client.post(path, **sent).status_code == 200, path

    scored = [row["features"] for row in rows(client.app, Prediction)[-4:]]
    assert scored == [scored[0]] * 4
    model = joblib.load(client.app.state.settings.model_file)
    assert np.frombuffer(scored[0])[model.columns_.index("vehicle_model")] == len(models) - 1
    # The log has what was sent.
    assert json.loads(rows(client.app, InferenceInput)[-1]["input_data_json"]) == body
    frame = pd.DataFrame([one | {"charging_start_time": pd.Timestamp("2024-05-01 18:00")} for one in (exact, body)])
    assert len({chances.tobytes() for chances in model.predict_proba(frame)}) == 1


@pytest.mark.parametrize("user_id", ["", " ", "ü" * 500, "'; DROP TABLE Users; --", "%", "0", DRIVER.upper()])
def test_a_strange_user_id_is_a_driver_without_a_past(shared_clients, good_request, user_id):
    assert ask(shared_clients, good_request, user_id=user_id)["history_sessions"] == 0


# Bad bodies: every one is refused with problem details, none is logged, none is a 500.

BAD = {
    "empty": b"",
    "blank": b"   ",
    "truncated": b'{"user_type": "Comm',
    "two documents": b"{}{}",
    "no JSON": b"hello",
    "single quotes": b"{'user_type': 'Commuter'}",
    "a trailing comma": b'{"user_type": "Commuter",}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'{"user_type": "\xff\xfe"}',
    "a lone surrogate": b'{"user_type": "\\ud800"}',
    "NaN": b'{"temperature_c": NaN}',
    "Infinity": b'{"temperature_c": Infinity}',
    "a list": b"[]",
    "a string": b'"Commuter"',
    "a number": b"7",
    "null": b"null",
    "nested too deeply": b"[" * 20_000,
    "a field nested too deeply": b'{"temperature_c": ' + b"[" * 20_000,
    "an unknown field nested too deeply": b'{"x": ' + b'{"x": ' * 10_000,
    "a number of five thousand digits": b'{"temperature_c": ' + b"9" * 5_000 + b"}",
    "a number beyond floats": b'{"temperature_c": 1e999}',
    "an empty object": b"{}",
    "a bad field, then truncated": b'{"temperature_c": "x",',
    "a bad field, then a second document": b'{"temperature_c": "x"}{}',
    "a bad field, and half a surrogate as a name": b'{"temperature_c": "x", "\\ud800": 1}',
    "a bad field, and half a surrogate as a driver": b'{"temperature_c": "x", "user_id": "\\ud800"}',
    "a field twice, of which one is bad": b'{"temperature_c": "x", "temperature_c": 15}',
}
BAD_FIELDS = {
    "a string for a number": {"temperature_c": "15"},
    "true for a number": {"temperature_c": True},
    "a list for a number": {"temperature_c": [15]},
    "an object for a number": {"temperature_c": {"value": 15}},
    "null where the history has no holes": {"battery_capacity_kwh": None},
    "a huge number": {"distance_driven_km": 1e308},
    "a huge whole number": {"distance_driven_km": 10**25},
    "a negative charge": {"state_of_charge_start": -1},
    "a charge above 100": {"state_of_charge_start": 152.0},
    "a battery of zero": {"battery_capacity_kwh": 0},
    "a heat wave": {"temperature_c": 73},
    "an old vehicle": {"vehicle_age_years": 51},
    "an unknown user type": {"user_type": "Astronaut"},
    "an empty user type": {"user_type": ""},
    "a number for a string": {"user_type": 3},
    "a long string": {"vehicle_model": "x" * 10_000},
    "NUL in the user type": {"user_type": "Commuter\x00"},
    "NUL in the user id": {"user_id": "User_1\x00"},
    "NUL in the vehicle model": {"vehicle_model": "\x00"},
    "a string for the vehicle id": {"vehicle_id": "1"},
    "a fraction for the vehicle id": {"vehicle_id": 1.5},
    "a vehicle id beyond 64 bits": {"vehicle_id": 2**63},
    "a negative vehicle id": {"vehicle_id": -1},
    "no time": {"charging_start_time": "soon"},
    "a date without a time": {"charging_start_time": "2026-03-02"},
    "a time of another year zero": {"charging_start_time": "0001-01-01T00:00:00+14:00"},
    "a number for a time": {"charging_start_time": 1767225600},
    "an extra field": {"colour": "red"},
    "what is known only afterwards": {"energy_consumed_kwh": 30.0},
    "the station of the session": {"charging_station_id": "Station_1"},
}


def refused(client, **request):
    before = counts(client.app)
    reply = client.request("POST", "/predict", **request)
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == reply.status_code
    assert {"type", "title", "detail", "request_id"} <= problem.keys()
    assert counts(client.app) == before
    return problem


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_body_is_refused(shared_client, body):
    refused(shared_client, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_refused_by_its_pointer(shared_client, good_request, fields):
    problem = refused(shared_client, json=good_request | fields)

    assert problem["status"] == 422
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{name}" for name in fields]


@pytest.mark.parametrize("missing", ["distance_driven_km", "battery_capacity_kwh", "vehicle_age_years", "user_type"])
def test_a_missing_field_is_refused_by_its_pointer(shared_client, good_request, missing):
    del good_request[missing]

    assert [error["pointer"] for error in refused(shared_client, json=good_request)["errors"]] == [f"#/{missing}"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_another_content_type_is_refused(shared_client, good_request, media_type):
    headers = {"Content-Type": media_type} if media_type else {}

    assert refused(shared_client, content=json.dumps(good_request).encode(), headers=headers)["status"] == 415


def test_eleven_megabytes_are_refused(sqlite_client):
    body = b'{"user_type": "' + b"x" * 11_000_000 + b'"}'

    assert refused(sqlite_client, content=body, headers={"Content-Type": "application/json"})["status"] == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(shared_client, good_request, method):
    reply = shared_client.request(method, "/predict")

    assert reply.status_code == 405
    assert reply.headers["content-type"] == "application/problem+json"
    assert "POST" in reply.headers["allow"]


def test_an_old_field_name_is_answered_with_its_new_one(sqlite_client, good_request):
    # The request has the fields of the earlier service, as an adopted database holds them.
    old = {
        "state of charge start": 30.5, "distance driven km": 250.2, "temperature c": 15.0, "battery capacity kwh": 64.0,
        "vehicle age years": 2.5, "user type Commuter": 1.0, "user type Occasional": 0.0,
    }  # fmt: skip

    details = {error["pointer"]: error["detail"] for error in refused(sqlite_client, json=old)["errors"]}

    assert "called state_of_charge_start now" in details["#/state of charge start"]
    assert "called user_type now" in details["#/user type Commuter"]
    assert "required" in details["#/temperature_c"]


def test_a_refusal_is_counted_and_leaves_one_line_without_its_values(sqlite_client, good_request, caplog):
    with caplog.at_level("INFO"):
        for _ in range(3):
            sqlite_client.post(
                "/predict", json=good_request | {"user_type": "Astronaut"}, headers={"X-Request-ID": "abc-1"}
            )

    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 3
    assert "abc-1" in lines[0]
    assert not any("Astronaut" in line for line in lines)
    assert sqlite_client.get("/health/ready").json()["refused_requests"] == 3


def test_a_request_id_is_given_back(sqlite_client, good_request):
    assert (
        sqlite_client.post("/predict", json=good_request, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    given = sqlite_client.post("/predict", json=good_request, headers={"X-Request-ID": "no\tgood id"}).headers[
        "x-request-id"
    ]
    assert len(given) == 32


def test_an_unexpected_error_stays_in_the_log(trained_sqlite, good_request, capsys, monkeypatch):
    def broken(*_):
        raise TypeError("a detail of the code")

    with client_of(trained_sqlite, raise_server_exceptions=False) as client:
        monkeypatch.setattr(Predictor, "answer", broken)
        reply = client.post("/predict", json=good_request)

    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in reply.text
    assert "a detail" not in reply.text
    line = next(line for line in capsys.readouterr().err.splitlines() if "unexpected error" in line)
    assert json.loads(line)["request_id"] == reply.json()["request_id"]
    assert "Traceback" in json.loads(line)["exception"]


def test_the_facts_and_the_past_of_a_driver_have_one_deadline(sqlite_client, good_request, monkeypatch):
    monkeypatch.setattr(prediction, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(prediction, "driver_facts", lambda *_: time.sleep(0.8) or {"user_type": "Commuter"})
    histories = sqlite_client.app.state.driver_histories
    monkeypatch.setattr(histories, "read_many", lambda *_, **__: time.sleep(3))
    del good_request["user_type"]
    begun = time.monotonic()

    reply = sqlite_client.post("/predict", json=good_request | {"user_id": "somebody"})

    assert reply.status_code == 503
    assert 0.9 < time.monotonic() - begun < 1.6
