"""POST /charging-sessions: committed, then answered."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select, text

from zap.app import create_app
from zap.db.engine import create_engine, write_transaction
from zap.db.history_rows import SESSIONS, take_turn

at = datetime.fromisoformat
ID = 1_000_001
START = {
    "session_id": ID,
    "user_id": "driver of this test",
    "charger_type": "Level 2",
    "charging_start_time": "2026-03-02T18:30:00",
    "state_of_charge_start": 30,
}
END = {"session_id": ID, "charging_end_time": "2026-03-02T20:00:00", "energy_consumed_kwh": 24.5}


def stored(app, number=ID):
    """The session as another connection sees it, without what is not known; None where there is none."""
    engine = create_engine(app.state.settings.database_url)
    with engine.connect() as connection:
        row = connection.execute(select(SESSIONS).where(SESSIONS.c.session_id == number)).mappings().one_or_none()
    engine.dispose()
    return row and {name: value for name, value in row.items() if value is not None}


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
    """A session starts, and ends; each is there for everybody when the answer is."""
    assert report(client, START) == {"status": "success", "added": 1, "updated": 0, "unchanged": 0}
    started = {**START, "charging_start_time": at("2026-03-02 18:30")}
    assert stored(client.app) == started

    assert report(client, END) == {"status": "success", "added": 0, "updated": 1, "unchanged": 0}
    assert stored(client.app) == started | END | {"charging_end_time": at("2026-03-02 20:00")}


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
    with TestClient(create_app(settings)) as client:
        report(client, START | {"charging_start_time": "2026-07-01T12:00:00.5Z"})

        assert stored(client.app)["charging_start_time"] == at("2026-07-01 13:00")


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
    """More of them than there are threads; meanwhile what is needed of the database for other answers is there."""
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
    assert report(client, START)["added"] == 1


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


# Bad bodies: every one is refused with problem details, none is written, none is a 500.

BAD = {
    "empty": (b"", 400),
    "blank": (b"   ", 400),
    "truncated": (b'[{"session_id": 1}', 400),
    "two documents": (b"{}{}", 400),
    "no JSON": (b"hello", 400),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400),
    "not UTF-8": (b'{"user_id": "\xff\xfe"}', 400),
    "a lone surrogate": (b'{"user_id": "\\ud800"}', 400),
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
def test_a_bad_body_is_refused(sqlite_client, body, status):
    problem = refused(sqlite_client, content=body, headers={"Content-Type": "application/json"})

    assert problem["status"] == status


def test_a_thousand_and_one_are_refused(sqlite_client):
    problem = refused(sqlite_client, json=[START | {"session_id": ID + number} for number in range(1001)])

    assert (problem["status"], pointers(problem)) == (422, ["#"])


def test_three_megabytes_are_refused(sqlite_client):
    body = b'{"user_id": "' + b"x" * 3_000_000 + b'"}'

    assert refused(sqlite_client, content=body, headers={"Content-Type": "application/json"})["status"] == 413


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_another_content_type_is_refused(sqlite_client, media_type):
    headers = {"Content-Type": media_type} if media_type else {}

    assert refused(sqlite_client, content=json.dumps(START).encode(), headers=headers)["status"] == 415


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(sqlite_client, method):
    reply = sqlite_client.request(method, "/charging-sessions")

    assert reply.status_code == 405
    assert reply.headers["content-type"] == "application/problem+json"


def test_the_docs_show_the_body_and_examples_that_are_answered(client):
    document = client.get("/openapi.json").json()
    content = document["paths"]["/charging-sessions"]["post"]["requestBody"]["content"]["application/json"]

    one, several = content["schema"]["oneOf"]
    assert (one["type"], several["type"]) == ("object", "array")
    replies = [report(client, example["value"]) for example in content["examples"].values()]
    assert [(reply["added"], reply["updated"]) for reply in replies] == [(1, 0), (0, 1)]
