"""POST /charging-sessions: committed, then answered."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from urllib.parse import quote

import histories
import pytest
from conftest import client_of
from sqlalchemy import func, insert, select, text

from zap.controllers import charging_sessions, deadline
from zap.db.engine import create_engine, write_transaction
from zap.db.history import driver_histories
from zap.db.history.history_rows import SESSIONS, VEHICLES, take_turn
from zap.db.history.history_store import read_history
from zap.db.history.session_ids import numbers_of
from zap.db.history.session_removal import remove_sessions
from zap.db.history.session_timestamps import read_timestamps
from zap.ml.history import clean_history

at = datetime.fromisoformat
ID = 1_000_001
START = histories.START | {"session_id": ID, "user_id": "driver of this test", "state_of_charge_start": 30}
END = histories.END | {"session_id": ID}


def stored(app, number=ID):
    """The session as another connection sees it, without what is not known; None where there is none.

    The time of its first report is left out.
    """
    engine = create_engine(app.state.settings.database_url)
    with engine.connect() as connection:
        row = connection.execute(select(SESSIONS).where(SESSIONS.c.session_id == number)).mappings().one_or_none()
    engine.dispose()
    return row and {name: value for name, value in row.items() if value is not None and name != "timestamp"}


def count(app):
    with app.state.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(SESSIONS))


def report(client, *sessions):
    reply = client.post("/charging-sessions", json=sessions[0] if len(sessions) == 1 else list(sessions))
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(client, **request):
    before = count(client.app), stored(client.app)
    reply = client.request("POST", "/charging-sessions", **request)
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == reply.status_code
    assert {"type", "title", "detail", "request_id"} <= problem.keys()
    assert (count(client.app), stored(client.app)) == before
    return problem


def pointers(problem):
    return [error["pointer"] for error in problem["errors"]]


def test_it_works(client):
    """Report the start and the end of a session. Each is committed before its answer."""
    assert report(client, START) == {"status": "success", "added": 1, "updated": 0, "unchanged": 0}
    started = {**START, "charging_start_time": at("2026-03-02 18:30")}
    assert stored(client.app) == started

    assert report(client, END) == {"status": "success", "added": 0, "updated": 1, "unchanged": 0}
    assert stored(client.app) == started | END | {"charging_end_time": at("2026-03-02 20:00")}


def types(app, *ids):
    return [stored(app, number)["charger_type"] for number in ids]


def insert_types(app, *names):
    """Add sessions as another program does, with ids from 1 up."""
    with app.state.engine.begin() as connection:
        rows = [
            {"session_id": number, "charger_type": name, "charging_start_time": at("2026-03-01 10:00")}
            for number, name in enumerate(names, 1)
        ]
        connection.execute(SESSIONS.insert(), rows)


def test_a_charger_type_gets_the_stored_spelling_and_the_reply_says_so(client):
    report(client, START | {"charger_type": "Spelt So"})
    reply = report(client, START | {"session_id": ID + 1, "charger_type": " spelt\u00a0SO"})
    assert reply == {
        "status": "success", "added": 1, "updated": 0, "unchanged": 0,
        "spellings": {"charger_type": {" spelt\u00a0SO": "Spelt So"}},
    }  # fmt: skip
    assert types(client.app, ID, ID + 1) == ["Spelt So", "Spelt So"]
    # It is not a change of the session.
    assert report(client, {"session_id": ID, "charger_type": "SPELT SO"})["unchanged"] == 1


def test_a_stored_spelling_stays_and_of_several_the_most_frequent_is_taken(client):
    insert_types(client.app, "slow", "Slow", "Slow", "SLOW", "n/a", None)
    names = ["slow", "Slow", "sLOW", "SLOW"]
    sessions = [START | {"session_id": ID + number, "charger_type": name} for number, name in enumerate(names)]

    assert report(client, *sessions)["spellings"] == {"charger_type": {"sLOW": "Slow"}}
    assert types(client.app, *range(ID, ID + 4)) == ["slow", "Slow", "Slow", "SLOW"]


def test_the_spellings_of_a_new_charger_type_in_one_report_become_one(client):
    names = ["brand new", "Brand New", "Brand New"]
    sessions = [START | {"session_id": ID + number, "charger_type": name} for number, name in enumerate(names)]

    assert report(client, *sessions)["spellings"] == {"charger_type": {"brand new": "Brand New"}}
    assert types(client.app, ID, ID + 1, ID + 2) == ["Brand New"] * 3


def test_the_reply_says_which_words_counted_as_null_and_which_ids_were_changed(client):
    places = [{"charging_station_id": "7.0"}, {"charging_station_location": "n/a"}, {"charging_station_location": "-"}]
    sessions = [START | {"session_id": ID + number} | place for number, place in enumerate(places)]

    reply = report(client, *sessions)

    assert reply["counted_as_null"] == {"charging_station_location": ["n/a", "-"]}
    assert reply["spellings"] == {"charging_station_id": {"7.0": "7"}}


def test_the_reply_names_the_vehicles_that_are_not_stored(client):
    sessions = [START | {"session_id": ID + place, "vehicle_id": 10**9 + place} for place in (1, 0)]

    assert report(client, *sessions)["unknown_vehicles"] == [10**9, 10**9 + 1]
    assert stored(client.app)["vehicle_id"] == 10**9
    assert report(client, sessions[0]) | {"status": "success"} == {
        "status": "success", "added": 0, "updated": 0, "unchanged": 1, "unknown_vehicles": [10**9 + 1]
    }  # fmt: skip
    with client.app.state.engine.begin() as connection:
        connection.execute(insert(VEHICLES), [{"vehicle_id": one["vehicle_id"]} for one in sessions])
    assert "unknown_vehicles" not in report(client, *sessions)


def test_the_same_again_changes_nothing(client):
    report(client, START | END)
    before = stored(client.app)

    for again in (START | END, START, END, dict.fromkeys(START | END) | {"session_id": ID}):
        assert report(client, again) == {"status": "success", "added": 0, "updated": 0, "unchanged": 1}
    assert stored(client.app) == before


def test_many_at_once(client):
    before = count(client.app)
    sessions = [START | {"session_id": ID + number} for number in range(1000)]

    assert report(client, *sessions)["added"] == 1000
    assert report(client, END, *sessions[1:]) == {"status": "success", "added": 0, "updated": 1, "unchanged": 999}
    assert count(client.app) == before + 1000


def test_without_a_model_or_a_history_it_works_too(untrained_client):
    assert report(untrained_client, START)["added"] == 1


def test_a_time_with_an_offset_becomes_wall_time(trained):
    settings = trained.model_copy(update={"timezone": "Europe/London"})
    with client_of(settings) as client:
        report(client, START | {"charging_start_time": "2026-07-01T12:00:00.5Z"})

        assert stored(client.app)["charging_start_time"] == at("2026-07-01 13:00")


def test_a_session_keeps_the_wall_time_of_its_first_report(trained, monkeypatch):
    settings = trained.model_copy(update={"timezone": "Europe/London"})

    def now_is(text):
        monkeypatch.setattr(charging_sessions, "utc_now", lambda: at(text))

    with client_of(settings) as client:
        engine = client.app.state.engine
        now_is("2026-07-01T17:31:02.5+00:00")
        report(client, START, START | {"session_id": "a text"})
        known = {ID: "2026-07-01 18:31:02"}
        assert read_timestamps(engine, [ID]) == known

        now_is("2026-07-01T19:00:00+00:00")
        report(client, END | {"session_id": ID}, START | {"session_id": ID + 1}, END | {"session_id": "a text"})
        report(client, START | {"charger_type": "Level 1"})
        assert read_timestamps(engine, [ID, ID + 1]) == known | {ID + 1: "2026-07-01 20:00:00"}
        with engine.connect() as connection:
            number = numbers_of(connection, ["a text"])["a text"]
        assert read_timestamps(engine, [number]) == {number: known[ID]}


def test_new_ids_continue_above_those_reported(client):
    report(client, START)
    with client.app.state.engine.begin() as connection:
        connection.execute(text("""INSERT INTO "ChargingSessions" (user_id) VALUES ('by SQL')"""))

    assert stored(client.app, ID + 1)["user_id"] == "by SQL"


def test_all_errors_of_all_sessions_are_told_at_once_and_nothing_is_written(client):
    report(client, START)
    sessions = [
        START | {"session_id": ID + 1},
        START | {"session_id": ID + 2, "charger_type": "", "temperature_c": "15", "colour": "red"},
        END | {"session_id": ID + 3},
        END | {"charging_end_time": "2026-03-02T18:00:00"},
        START | {"session_id": ID + 1},
        3,
    ]

    problem = refused(client, json=sessions)

    assert problem["type"] == "urn:zap:problem:invalid-request"
    assert set(pointers(problem)) == {
        "#/1/charger_type",
        "#/1/temperature_c",
        "#/1/colour",
        "#/2/user_id",
        "#/2/charger_type",
        "#/2/charging_start_time",
        "#/3/charging_end_time",
        "#/4/session_id",
        "#/5",
    }


def test_an_unknown_session_needs_a_driver_a_type_and_a_start(client):
    assert pointers(refused(client, json=END)) == ["#/user_id", "#/charger_type", "#/charging_start_time"]


def test_an_end_before_the_stored_start_is_refused(client):
    report(client, START)

    problem = refused(client, json=END | {"charging_end_time": "2026-03-02T18:29:59"})

    assert pointers(problem) == ["#/charging_end_time"]
    assert "2026-03-02 18:30:00" in problem["errors"][0]["detail"]


def test_reports_of_one_session_at_the_same_time_all_succeed(client):
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: report(client, START), range(24)))

    assert sum(reply["added"] for reply in replies) == 1
    assert sum(reply["unchanged"] for reply in replies) == 23


def test_a_locked_database_is_told_and_the_same_report_succeeds_later(client):
    with write_transaction(client.app.state.engine) as connection:
        take_turn(connection)
        reply = client.post("/charging-sessions", json=START)

    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"] == "1"
    assert stored(client.app) is None
    assert report(client, START)["added"] == 1


def test_reports_that_wait_leave_the_threads_to_others(client):
    # More reports wait than there are threads. Other answers can still ask the database.
    with write_transaction(client.app.state.engine) as connection, ThreadPoolExecutor(40) as threads:
        take_turn(connection)
        waiting = [
            threads.submit(client.post, "/charging-sessions", json=START | {"session_id": ID + number})
            for number in range(40)
        ]
        threading.Event().wait(0.5)
        answered = client.get("/predictions/1").status_code
        assert not any(reply.done() for reply in waiting)
        statuses = {reply.result().status_code for reply in waiting}

    assert answered == 200
    assert statuses == {503}
    # Of a report that was refused at its deadline it is not known whether it was written.
    again = report(client, START)
    assert again["added"] + again["unchanged"] == 1


def test_a_commit_that_fails_is_no_answer(client):
    with client.app.state.engine.begin() as connection:
        connection.execute(text('ALTER TABLE "ChargingSessions" RENAME TO gone'))

    reply = client.post("/charging-sessions", json=START)

    assert reply.status_code == 503
    assert "gone" not in reply.text
    assert "ChargingSessions" not in reply.text
    with client.app.state.engine.begin() as connection:
        connection.execute(text('ALTER TABLE gone RENAME TO "ChargingSessions"'))
    assert stored(client.app) is None


def test_a_reported_session_counts_in_the_next_prediction(client, good_request):
    ask = good_request | {"user_id": START["user_id"], "charging_start_time": "2026-03-03T08:00:00"}

    def known():
        return client.post("/predict", json=ask).json()["history_sessions"]

    assert known() == 0
    report(client, START)
    assert known() == 1
    report(client, {"session_id": ID, "user_id": "another driver"})
    assert known() == 0


def known_sessions(client, good_request):
    ask = good_request | {"user_id": START["user_id"], "charging_start_time": "2026-03-03T08:00:00"}
    return client.post("/predict", json=ask).json()["history_sessions"]


@pytest.mark.parametrize("number", [ID, "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "CP 1/7 *é%?#", "..a"])
def test_a_removed_session_does_not_count_in_the_next_prediction(client, good_request, number):
    report(client, START | {"session_id": number}, START | {"session_id": ID + 1})
    assert known_sessions(client, good_request) == 2
    before = count(client.app)

    path = f"/charging-sessions/{quote(str(number), safe='')}"
    assert client.delete(path).status_code == 204

    assert known_sessions(client, good_request) == 1
    assert count(client.app) == before - 1
    gone = client.delete(path)
    assert gone.status_code == 404
    assert gone.headers["content-type"] == "application/problem+json"
    assert gone.json()["detail"] == f"there is no session {number}"
    assert report(client, START | {"session_id": number})["added"] == 1


def test_a_session_that_another_process_removes_does_not_count_within_two_seconds(client, good_request):
    report(client, START, START | {"session_id": ID + 1})
    assert known_sessions(client, good_request) == 2
    engine = create_engine(client.app.state.settings.database_url)
    remove_sessions(engine, [ID])
    engine.dispose()

    end = time.monotonic() + 2
    while (known := known_sessions(client, good_request)) == 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert known == 1


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-999999",
        "1e3",
        "x" * 300,
        "%2F",
        "99999999999999999999",
        "%F0%9F%94%8C",
        pytest.param("9" * 5000, id="long"),
    ],
)
def test_a_session_that_is_not_there_is_not_found(shared_client, number):
    reply = shared_client.delete(f"/charging-sessions/{number}")

    assert (reply.status_code, reply.json()["type"]) == (404, "urn:zap:problem:not-found")


def test_the_id_of_another_session_is_a_conflict(client):
    report(client, START)

    problem = refused(client, json=[START | {"user_id": "V", "charging_start_time": "2026-01-01T10:00:00"}])

    assert (problem["status"], problem["type"]) == (409, "urn:zap:problem:session-taken")
    assert pointers(problem) == ["#/0/session_id"]


def test_energy_that_a_vehicle_feeds_into_the_grid_is_kept(client):
    report(client, START | {"energy_consumed_kwh": -12.5, "charging_rate_kw": -11, "charging_cost_usd": -3})

    kept = stored(client.app)
    assert [kept[name] for name in ("energy_consumed_kwh", "charging_rate_kw", "charging_cost_usd")] == [-12.5, -11, -3]
    dropped = clean_history(read_history(client.app.state.engine)).dropped
    assert dropped.values["energy_consumed_kwh"] == {"outside 0 to 1,000 kWh": 1}


# Bad bodies: every one is refused with problem details, none is written, none is a 500.

BAD = {
    "empty": (b"", 400),
    "blank": (b"   ", 400),
    "truncated": (b'[{"session_id": 1}', 400),
    "two documents": (b"{}{}", 400),
    "no JSON": (b"hello", 400),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf{}", 400),
    "not UTF-8": (b'{"user_id": "\xff\xfe"}', 400),
    "a lone surrogate": (b'{"user_id": "\\ud800"}', 422),
    "a lone surrogate as a name": (b'[{"\\ud800": 1}]', 400),
    "a lone surrogate behind a large number": (b'[{"session_id": 1e999, "user_id": "\\ud800"}]', 422),
    "a lone surrogate as a name behind a large number": (b'[{"session_id": 1e999, "\\ud800": 1}]', 400),
    "NaN": (b'{"session_id": 1, "temperature_c": NaN}', 400),
    "nested too deeply": (b"[" * 20_000, 400),
    "a field nested too deeply": (b'{"temperature_c": ' + b"[" * 20_000, 400),
    "null": (b"null", 422),
    "an empty list": (b"[]", 422),
    "a number": (b"3", 422),
    "a list of a number": (b"[3]", 422),
    "a list of lists": (b"[[{}]]", 422),
    "a string": (b'"Level 2"', 422),
    "an empty object": (b"{}", 422),
    "a number of five thousand digits": (b'{"session_id": ' + b"9" * 5_000 + b"}", 422),
    "a number beyond floats": (b'{"session_id": 1, "temperature_c": 1e999}', 422),
    "a field twice": (json.dumps(START)[:-1].encode() + b', "user_id": "another"}', 422),
    "a session id twice": (json.dumps(START)[:-1].encode() + b', "session_id": 3}', 422),
}


@pytest.mark.parametrize(("body", "status"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused(shared_client, body, status):
    problem = refused(shared_client, content=body, headers={"Content-Type": "application/json"})

    assert problem["status"] == status


def test_a_thousand_and_one_are_refused(sqlite_client):
    problem = refused(sqlite_client, json=[START | {"session_id": ID + number} for number in range(1001)])

    assert (problem["status"], pointers(problem)) == (422, ["#"])


def test_three_megabytes_are_refused(sqlite_client):
    body = b'{"user_id": "' + b"x" * 3_000_000 + b'"}'

    assert refused(sqlite_client, content=body, headers={"Content-Type": "application/json"})["status"] == 413


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_another_content_type_is_refused(shared_client, media_type):
    headers = {"Content-Type": media_type} if media_type else {}

    assert refused(shared_client, content=json.dumps(START).encode(), headers=headers)["status"] == 415


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(shared_client, method):
    reply = shared_client.request(method, "/charging-sessions")

    assert reply.status_code == 405
    assert reply.headers["content-type"] == "application/problem+json"


def test_the_docs_show_the_body_and_examples_that_are_answered(client):
    document = client.get("/openapi.json").json()
    content = document["paths"]["/charging-sessions"]["post"]["requestBody"]["content"]["application/json"]

    assert content["schema"] == {"$ref": "#/components/schemas/SessionReport"}
    one, several = document["components"]["schemas"]["SessionReport"]["oneOf"]
    assert one == several["items"] == {"$ref": "#/components/schemas/ChargingSession"}
    assert several["type"] == "array"
    assert document["components"]["schemas"]["ChargingSession"]["required"] == ["session_id"]
    replies = [report(client, example["value"]) for example in content["examples"].values()]
    assert [(reply["added"], reply["updated"]) for reply in replies] == [(1, 0), (0, 1)]


def test_a_report_that_outlives_its_deadline_keeps_its_turn_and_lets_the_past_be_read_anew(client, monkeypatch):
    # The client learns in time that the outcome is unknown. The report is committed, and it counts at once.
    monkeypatch.setattr(deadline, "_DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(driver_histories, "FRESH_SECONDS", 1000)
    goes_on, begun, order = threading.Event(), [], []
    real = charging_sessions.report_sessions

    def slowly(*arguments):
        begun.append(1)
        if len(begun) == 1:
            goes_on.wait(60)
        reported = real(*arguments)
        order.append(arguments[1].sessions[0].session_id)
        return reported

    monkeypatch.setattr(charging_sessions, "report_sessions", slowly)
    histories = client.app.state.driver_histories
    at, types = 2_000_000_000, ("Level 1", "Level 2")
    before = histories.read("slow", at, types).sessions
    report = {"user_id": "slow", "charger_type": "Level 2", "charging_start_time": "2024-05-01T10:00:00"}

    refused = client.post("/charging-sessions", json={"session_id": 5_000_001, **report})
    assert refused.status_code == 503
    # The next one does not begin beside it.
    assert client.post("/charging-sessions", json={"session_id": 5_000_002, **report}).status_code == 503
    assert len(begun) == 1
    assert histories.known("slow", at, types).sessions == before
    goes_on.set()
    end = time.monotonic() + 60
    while histories.known("slow", at, types) is not None:
        assert time.monotonic() < end
        time.sleep(0.02)
    monkeypatch.setattr(deadline, "_DEADLINE_SECONDS", 5.5)
    assert client.post("/charging-sessions", json={"session_id": 5_000_003, **report}).status_code == 200

    assert order == [5_000_001, 5_000_003]
    assert histories.read("slow", at, types).sessions == before + 2
