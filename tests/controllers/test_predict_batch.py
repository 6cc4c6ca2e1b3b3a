"""POST /predict/batch: many rows, each logged like a request, then answered."""

import asyncio
import copy
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from conftest import client_of, counted
from litestar.datastructures import State
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from zap.controllers import batches, line_groups, open_batches, slow_client, unread_answers
from zap.controllers.line_stream import LineStream
from zap.db.engine import create_engine
from zap.db.tables import InferenceInput, Prediction
from zap.errors import DatabaseUnavailable
from zap.flows.prediction import BatchPrediction
from zap.threads import Pool

NDJSON = "application/x-ndjson"
CSV = "text/csv"
DRIVER = "sample-1-00003"
START = {"charging_start_time": "2024-05-01T18:00:00"}
# What is not the same in the answer to the same request again.
IDS = ("input_id", "prediction_id")


def counts(app):
    return counted(app, InferenceInput), counted(app, Prediction)


def send(client, body, kind="application/json", **parameters):
    content = json.dumps(body) if isinstance(body, dict) else body
    return client.post("/predict/batch", content=content, headers={"Content-Type": kind}, params=parameters)


def without_ids(answer):
    return {name: value for name, value in answer.items() if name not in IDS}


def lines_of(reply):
    return [json.loads(line) for line in reply.text.splitlines()]


@pytest.fixture
def varied(good_request):
    """Rows of every kind: plain, of known and unknown drivers, with gaps, null, context and offsets."""
    session = {name: good_request[name] for name in ("state_of_charge_start", "distance_driven_km", "temperature_c")}
    return [
        good_request | START,
        good_request | START | {"vehicle_model": "Nissan LEAF", "user_id": None},
        good_request | START | {"temperature_c": None, "state_of_charge_start": 12},
        good_request | {"charging_start_time": "2024-05-01T18:00:00+02:00"},
        good_request | {"user_id": DRIVER, "charging_start_time": "2030-01-01T08:00:00"},
        good_request | {"user_id": DRIVER, "charging_start_time": "2024-02-01T08:00:00"},
        session | {"user_id": DRIVER, "charging_start_time": "2030-01-01T08:00:00"},
        session | {"user_id": "sample-1-00005", "charging_start_time": "2030-01-01T08:00:00"},
        session | START | {"vehicle_id": 2},
        good_request | START | {"user_id": "nobody", "vehicle_id": 10**9},
    ]  # fmt: skip


def test_it_works(client, varied, rows):
    """Answer each row bit-identical to /predict, and log it as /predict does."""
    before = counts(client.app)

    reply = send(client, {"inputs": varied})

    assert reply.status_code == 200, reply.text
    answers = reply.json()["predictions"]
    assert (reply.json()["answered"], reply.json()["skipped"]) == (len(varied), 0)
    assert counts(client.app) == tuple(count + len(varied) for count in before)
    inputs, predictions = rows(client.app, InferenceInput)[-len(varied) :], rows(client.app, Prediction)[-len(varied) :]
    for row, answer, logged, prediction in zip(varied, answers, inputs, predictions, strict=True):
        single = client.post("/predict", json=row).json()
        assert without_ids(answer) == without_ids(single)
        assert list(answer["probabilities"]) == list(single["probabilities"])
        assert logged["input_id"] == answer["input_id"] == prediction["input_id"]
        assert logged["input_data_json"] == json.dumps(row)
        assert prediction["prediction_id"] == answer["prediction_id"]
        alone = rows(client.app, Prediction)[-1]
        for column in ("source", "predicted_class", "model_version", "probabilities", "features", "actual_class"):
            assert prediction[column] == alone[column], column
    # The driver's past counted, and did so for each start.
    assert answers[4]["history_sessions"] > answers[5]["history_sessions"] > 0


def test_csv_and_ndjson_mean_the_same(client, good_request, varied, rows):
    plain = [good_request | START | {"temperature_c": temperature} for temperature in (1, 2.5, None)]
    header = ",".join(plain[0])
    cells = "".join(",".join("" if cell is None else str(cell) for cell in row.values()) + "\n" for row in plain)

    as_csv = send(client, f"{header}\n{cells}", CSV).json()["predictions"]
    logged = [json.loads(row["input_data_json"]) for row in rows(client.app, InferenceInput)[-3:]]
    as_json = send(client, {"inputs": plain}).json()["predictions"]
    as_lines = lines_of(send(client, "".join(json.dumps(row) + "\n" for row in [*plain, *varied]), NDJSON))

    assert logged == plain
    assert [*map(without_ids, as_csv)] == [*map(without_ids, as_json)] == [*map(without_ids, as_lines[:3])]
    assert [*map(without_ids, as_lines[3:])] == [
        without_ids(answer) for answer in send(client, {"inputs": varied}).json()["predictions"]
    ]


def test_a_row_is_logged_as_it_was_sent(sqlite_client, good_request, rows):
    row = json.dumps(good_request | {"vehicle_model": "Citroën ë-C4"}, indent=3, ensure_ascii=False)
    other = json.dumps(good_request | {"vehicle_model": 'a "quoted" \\ name'})

    assert send(sqlite_client, f'{{"inputs" : [ {row} ,\n{other} ]}}'.encode()).status_code == 200

    assert [one["input_data_json"] for one in rows(sqlite_client.app, InferenceInput)[-2:]] == [row, other]


# All or nothing, unless on_error=skip.


@pytest.fixture
def mixed(good_request):
    """Good rows and bad ones, and the pointers of what is wrong."""
    inputs = [
        good_request,
        good_request | {"temperature_c": 99, "colour": "red"},
        good_request,
        7,
        good_request | {"user_type": "Astronaut", "charging_start_time": "soon"},
        {name: value for name, value in good_request.items() if name != "battery_capacity_kwh"},
    ]
    pointers = [
        "#/inputs/1/temperature_c",
        "#/inputs/1/colour",
        "#/inputs/3",
        "#/inputs/4/charging_start_time",
        "#/inputs/4/user_type",
        "#/inputs/5/battery_capacity_kwh",
    ]
    return inputs, pointers


def test_with_a_bad_row_nothing_is_logged_and_every_bad_field_is_told(client, mixed):
    inputs, pointers = mixed
    before = counts(client.app)

    reply = send(client, {"inputs": inputs})

    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in reply.json()["errors"]] == pointers
    assert counts(client.app) == before


def test_errors_are_those_of_a_single_request(sqlite_client, mixed):
    inputs, _ = mixed
    in_batch = send(sqlite_client, {"inputs": inputs}).json()["errors"]

    alone = [
        {"pointer": f"#/inputs/{place}" + error["pointer"][1:], "detail": error["detail"]}
        for place, row in enumerate(inputs)
        for error in sqlite_client.post("/predict", json=row).json().get("errors", ())
    ]

    assert in_batch == alone


def test_bad_rows_can_be_skipped(client, mixed, rows):
    inputs, pointers = mixed
    before = counts(client.app)

    reply = send(client, {"inputs": inputs}, on_error="skip").json()

    assert (reply["answered"], reply["skipped"]) == (2, 4)
    assert ["errors" in one for one in reply["predictions"]] == [False, True, False, True, True, True]
    told = [error["pointer"] for one in reply["predictions"] if "errors" in one for error in one["errors"]]
    assert told == pointers
    assert counts(client.app) == (before[0] + 2, before[1] + 2)
    assert reply["predictions"][2]["input_id"] == rows(client.app, InferenceInput)[-1]["input_id"]


def test_a_batch_of_bad_rows_only_can_be_skipped_whole(sqlite_client):
    before = counts(sqlite_client.app)

    reply = send(sqlite_client, {"inputs": [{}, []]}, on_error="skip").json()

    assert (reply["answered"], reply["skipped"]) == (0, 2)
    assert counts(sqlite_client.app) == before


def test_at_most_a_hundred_errors_are_told(sqlite_client, good_request):
    started = time.monotonic()

    problem = send(sqlite_client, {"inputs": [good_request | {f"name{n}": 1} for n in range(3_000)]}).json()

    assert len(problem["errors"]) == 100
    assert problem["detail"].startswith("3000 errors: ")
    assert problem["detail"].endswith(" and 2900 more")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("kind", "body"), [("application/json", '{"inputs": []}'), (CSV, "user_type\n"), (NDJSON, "")])
def test_a_batch_without_rows_is_answered_without_predictions(shared_client, kind, body):
    before = counts(shared_client.app)

    reply = send(shared_client, body, kind)

    assert reply.status_code == 200
    assert reply.text == "" if kind == NDJSON else reply.json()["predictions"] == []
    assert counts(shared_client.app) == before


def test_a_field_twice_in_a_row_is_told(sqlite_client, good_request):
    row = json.dumps(good_request)
    twice = row.replace("{", '{"temperature_c": 3, ', 1)
    escaped = row.replace("{", '{"\\u0074emperature_c": 3, ', 1)
    before = counts(sqlite_client.app)

    errors = send(sqlite_client, f'{{"inputs": [{row}, {twice}, {row}, {escaped}]}}').json()["errors"]

    assert [(error["pointer"], error["detail"]) for error in errors] == [
        (f"#/inputs/{place}/temperature_c", "appears more than once") for place in (1, 3)
    ]
    assert counts(sqlite_client.app) == before


BAD_DOCUMENTS = {
    "empty": (b"", 400),
    "truncated": (b'{"inputs": [{"user_type": "Comm', 400),
    "not UTF-8": (b'{"inputs": [{"user_type": "\xff"}]}', 400),
    "a row with NaN": (b'{"inputs": [{"temperature_c": NaN}]}', 400),
    "nested too deeply": (b'{"inputs": ' + b"[" * 50_000, 400),
    "a list": (b"[{}]", 422),
    "null": (b"null", 422),
    "no inputs": (b"{}", 422),
    "inputs twice": (b'{"inputs": [], "inputs": []}', 422),
    "inputs twice, once escaped": (b'{"inputs": [], "\\u0069nputs": []}', 422),
    "an object of inputs": (b'{"inputs": {}}', 422),
    "null for inputs": (b'{"inputs": null}', 422),
    "a field beside them": (b'{"inputs": [], "user_type": "Commuter"}', 422),
}


@pytest.mark.parametrize(("body", "status"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_bad_document_is_refused(shared_client, body, status, on_error):
    before = counts(shared_client.app)

    reply = send(shared_client, body, on_error=on_error)

    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert counts(shared_client.app) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "text/csv; charset=latin-1"])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_another_content_type_is_refused_with_those_that_are_taken(shared_client, kind, path):
    for sent in (kind, "application/json; charset=utf-16"):
        reply = shared_client.post(path, content=b"x", headers={"Content-Type": sent})
        assert reply.status_code == 415
        assert any(word in reply.json()["detail"] for word in ("latin-1", "utf-16", "application/json"))
    same = shared_client.post(path, content=b"x", headers={"Content-Type": 'application/json; charset="UTF-8"'})
    assert same.status_code == 400


def test_another_on_error_is_refused(sqlite_client):
    assert send(sqlite_client, {"inputs": []}, on_error="ignore").status_code == 400


@pytest.mark.parametrize(
    ("kind", "body"), [("application/json", '{"inputs": []}'), (CSV, "user_type\n"), (NDJSON, "{}")]
)
def test_without_a_model_it_is_503(untrained_client, kind, body):
    assert send(untrained_client, body, kind).status_code == 503


# Limits.


@pytest.fixture
def limited(trained_sqlite):
    """The app with room for three rows in a thousand bytes."""
    settings = trained_sqlite.model_copy(update={"batch_rows": 3, "batch_bytes": 1_000})
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


def test_more_rows_than_the_limit_are_refused_by_its_name(limited):
    before = counts(limited.app)

    for body, kind in (({"inputs": [{}] * 4}, "application/json"), ("user_type\n" + "Commuter\n" * 4, CSV)):
        reply = send(limited, body, kind)
        assert reply.status_code == 413
        assert "ZAP_BATCH_ROWS" in reply.json()["detail"]
    assert counts(limited.app) == before
    assert send(limited, {"inputs": [{}] * 3}).status_code == 422


def test_more_bytes_than_the_limit_are_refused_by_its_name(limited):
    announced = send(limited, b" " * 1_001)
    in_pieces = limited.post(
        "/predict/batch", content=(b" " * 500 for _ in range(3)), headers={"Content-Type": "application/json"}
    )

    assert announced.status_code == in_pieces.status_code == 413
    assert "ZAP_BATCH_BYTES" in announced.json()["detail"]
    assert "ZAP_BATCH_BYTES" in in_pieces.json()["detail"]


def test_ndjson_has_no_such_limits(limited, good_request):
    assert len(lines_of(send(limited, (json.dumps(good_request) + "\n") * 20, NDJSON))) == 20


def test_a_row_larger_than_a_request_may_be_is_refused(sqlite_client, good_request):
    large = json.dumps(good_request) + " " * 65_536

    assert send(sqlite_client, f'{{"inputs": [{json.dumps(good_request)}, {large[:-1]} 7]}}').status_code == 400
    inside = large.replace("{", "{" + " " * 65_536, 1).strip()
    assert [one["pointer"] for one in send(sqlite_client, f'{{"inputs": [{inside}]}}').json()["errors"]] == [
        "#/inputs/0"
    ]


# CSV.

HEADER = "state_of_charge_start,distance_driven_km,temperature_c,battery_capacity_kwh,vehicle_age_years,user_type"
CELLS = "30.5,120,15,64,2.5,Commuter"


@pytest.mark.parametrize(
    "body",
    [
        f"\ufeff{HEADER}\n{CELLS}\n",
        f"{HEADER}\r\n{CELLS}\r\n",
        f"{HEADER}\n{CELLS}",
        f"{HEADER}\n\n{CELLS}\n\n",
        f"{HEADER}\n{CELLS}\n".replace("Commuter", '"Commuter"').replace("user_type", '"user_type"'),
        f"{HEADER}\n{CELLS}\n".replace(",", ";"),
        f"{HEADER}\n{CELLS}\n".replace(",", "\t"),
        f"{HEADER},vehicle_model,vehicle_id\n{CELLS},,\n",
        f'{HEADER},vehicle_model\n{CELLS},"a ""b"",\nc"\n'.replace("\nc", "c"),
        f"{HEADER},vehicle_id\n{CELLS},12.0\n",
    ],
    ids=["BOM", "CRLF", "no last line end", "blank lines", "quoted", "semicolons", "tabs", "empty", "quotes", "12.0"],
)
def test_csv_in_every_dress(shared_client, body):
    reply = send(shared_client, body.encode(), CSV)

    assert reply.status_code == 200, reply.text
    assert reply.json()["answered"] == 1


def test_an_empty_cell_is_null(sqlite_client, rows):
    send(sqlite_client, f"{HEADER},user_id,vehicle_id\n{CELLS.replace('15', '')},,12.0\n", CSV)

    sent = json.loads(rows(sqlite_client.app, InferenceInput)[-1]["input_data_json"])
    assert sent["temperature_c"] is None
    assert sent["user_id"] is None
    assert sent["vehicle_id"] == 12
    assert sent["distance_driven_km"] == 120


@pytest.mark.parametrize("cell", ["1,5", "1_000", "0x10", "+1", "1e999", "inf", "soon", "15°", "١٥"])
def test_a_cell_that_is_no_number_is_told_with_its_line(shared_client, cell):
    body = f"{HEADER}\n{CELLS}\n" + CELLS.replace("15", f'"{cell}"', 1) + "\n"

    (error,) = send(shared_client, body, CSV).json()["errors"]

    assert (error["pointer"], error["line"]) == ("#/inputs/1/temperature_c", 3)


def test_a_column_that_is_no_field_is_told_once(sqlite_client):
    body = f"{HEADER},colour,user_type,temperature\n" + f"{CELLS},red,Commuter,3\n" * 50

    for on_error in ("fail", "skip"):
        reply = send(sqlite_client, body, CSV, on_error=on_error)
        assert reply.status_code == 422
        assert {error["pointer"]: error["detail"].split(";")[0] for error in reply.json()["errors"]} == {
            "#/user_type": "appears more than once",
            "#/colour": "is not a field",
            "#/temperature": "is not a field",
        }


def test_csv_rows_that_cannot_be_read_are_told_and_skipped(sqlite_client):
    body = f'{HEADER}\n{CELLS}\n1,2\n{CELLS}\n{CELLS},7\n30.5,"1"2,15,64,2.5,Commuter\n{CELLS}\n'

    reply = send(sqlite_client, body, CSV, on_error="skip").json()

    assert (reply["answered"], reply["skipped"]) == (3, 3)
    assert [one["line"] for one in reply["predictions"] if "errors" in one] == [3, 5, 6]
    assert send(sqlite_client, body, CSV).status_code == 422


@pytest.mark.parametrize("body", [b"", b"\n", b"\xff\xfe\n1\n", b'"user_type\n', f"{HEADER}\n\xe9".encode("latin-1")])
def test_what_is_no_csv_is_refused(shared_client, body):
    assert send(shared_client, body, CSV).status_code in {400, 422}
    assert send(shared_client, body, CSV).headers["content-type"] == "application/problem+json"


# NDJSON.


def test_bad_lines_are_answered_in_their_place(client, good_request, rows):
    # One in fifty of more than five thousand lines is bad. Each good line is logged once.
    bad = ['{"temperature_c": "x"', "hello", "[]", '{"colour": 1}', '{"a": 1}{"b": 2}', "\x00"]
    sent = [
        bad[n // 50 % len(bad)] if n % 50 == 0 else json.dumps(good_request | {"distance_driven_km": n % 1_000})
        for n in range(5_003)
    ]
    before = counts(client.app)

    answers = lines_of(send(client, "\r\n".join(sent).encode(), NDJSON))

    assert len(answers) == len(sent)
    assert [answer.get("line") for answer in answers] == [n + 1 if n % 50 == 0 else None for n in range(len(sent))]
    logged = rows(client.app, InferenceInput)[before[0] :]
    by_id = {row["input_id"]: row["input_data_json"] for row in logged}
    assert [by_id[answer["input_id"]] for answer in answers if "errors" not in answer] == [
        line for n, line in enumerate(sent) if n % 50
    ]
    assert len(logged) == len(sent) - 101
    assert counted(client.app, Prediction) - before[1] == len(logged)


def test_a_line_that_is_not_utf_8_is_answered_in_its_place(sqlite_client, good_request):
    row = json.dumps(good_request).encode()
    bad = row.replace(b"Commuter", b"Comm\xffter")

    first, second, third = lines_of(send(sqlite_client, b"\n".join([row, bad, row]), NDJSON))

    assert "errors" not in first
    assert "errors" not in third
    assert second["line"] == 2
    assert "UTF-8" in second["errors"][0]["detail"]


def test_blank_lines_are_ignored_and_counted_as_lines(sqlite_client, good_request):
    row = json.dumps(good_request)

    answers = lines_of(send(sqlite_client, f"\n{row}\n  \r\n\nx\n{row}", NDJSON))

    assert [answer.get("line") for answer in answers] == [None, 5, None]


def test_two_halves_of_a_row_on_two_lines_are_two_bad_lines(sqlite_client, good_request):
    # A line with two rows does not make up for it.
    row = json.dumps(good_request)
    half = row.index(",")
    before = counts(sqlite_client.app)

    answers = lines_of(send(sqlite_client, f"{row},{row[:half]}\n{row[half + 1 :]}\n", NDJSON))

    assert [answer["line"] for answer in answers] == [1, 2]
    assert counts(sqlite_client.app) == before


def test_a_line_that_is_too_long_is_told_and_the_next_answered(sqlite_client, good_request):
    row = json.dumps(good_request)

    def pieces():
        yield f"{row}\n".encode()
        for _ in range(100):
            yield b"x" * 65_536
        yield f"\n{row}\n".encode()

    reply = sqlite_client.post("/predict/batch", content=pieces(), headers={"Content-Type": NDJSON})

    first, long, last = lines_of(reply)
    assert "errors" not in first
    assert "errors" not in last
    assert long["line"] == 2
    assert "65,536" in long["errors"][0]["detail"]


@pytest.mark.parametrize("lines", [10, 2_500])
def test_when_the_database_fails_the_last_line_is_a_problem(client, good_request, refuse_commits, lines):
    # The first group is answered and the second is not. No row is answered that is not logged.
    before = counts(client.app)
    refuse_commits(client.app.state.engine, after=1_000 if lines > 1_000 else 0)

    reply = send(client, (json.dumps(good_request) + "\n") * lines, NDJSON)

    logged = counts(client.app)[0] - before[0]
    if lines < 1_000:
        assert (reply.status_code, logged) == (503, 0)
        assert reply.headers["content-type"] == "application/problem+json"
        return
    *answers, problem = lines_of(reply)
    assert len(answers) == logged == 1_000
    assert problem["type"] == "urn:zap:problem:log-unavailable"
    assert (problem["status"], problem["line"]) == (503, 1_001)
    assert problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("table", ["inference_inputs", "predictions"])
def test_when_the_log_cannot_be_written_nothing_is_answered(client, good_request, table):
    before = counts(client.app)
    with client.app.state.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO gone"))

    reply = send(client, {"inputs": [good_request] * 3})

    with client.app.state.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE gone RENAME TO {table}"))
    assert reply.status_code == 503
    assert reply.json()["type"] == "urn:zap:problem:log-unavailable"
    assert "gone" not in reply.text
    assert counts(client.app) == before


# Among others.


def test_a_batch_behind_one_that_takes_long_is_told_so(trained_sqlite, good_request, monkeypatch):
    monkeypatch.setattr(batches, "_PATIENCE_SECONDS", 0.05)
    begun, over = threading.Event(), threading.Event()
    predict = BatchPrediction.predict

    def slowly(*arguments):
        begun.set()
        over.wait(20)
        return predict(*arguments)

    monkeypatch.setattr(BatchPrediction, "predict", slowly)
    line = json.dumps(good_request)
    with client_of(trained_sqlite) as client:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(send, client, line, NDJSON)
            begun.wait(20)
            behind = send(client, {"inputs": [good_request]})
            over.set()

        assert (behind.status_code, behind.headers["retry-after"]) == (503, "1")
        assert behind.json()["type"] == "urn:zap:problem:too-busy"
        assert "before this one" in behind.json()["detail"]
        assert len(lines_of(first.result())) == 1
        assert send(client, {"inputs": [good_request]}).status_code == 200


def test_batches_behind_one_that_the_database_fails_are_refused_with_it(sqlite_client, good_request, monkeypatch):
    # Otherwise each waiting batch would wait for the silent database in its own turn.
    begun, over, asked = threading.Event(), threading.Event(), []

    def silent(*_):
        asked.append(1)
        begun.set()
        over.wait(20)
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(BatchPrediction, "complete", silent)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(send, sqlite_client, {"inputs": [good_request]})
        begun.wait(20)
        behind = [pool.submit(send, sqlite_client, {"inputs": [good_request]}) for _ in range(2)]
        time.sleep(0.5)
        over.set()
        replies = [one.result() for one in (first, *behind)]

    assert [reply.status_code for reply in replies] == [503] * 3
    assert len(asked) == 1
    monkeypatch.undo()
    assert send(sqlite_client, {"inputs": [good_request]}).status_code == 200


def test_work_that_is_cancelled_is_over_before_the_next_begins():
    over = threading.Event()
    state = State({"batch_threads": Pool("batches", 1)})

    async def cancelled():
        task = asyncio.create_task(batches._apart(state, lambda: time.sleep(0.1) or over.set()))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert over.is_set()

    asyncio.run(cancelled())
    state.batch_threads.close()


def ask_directly(app, kind, messages):
    """The app's reply to a request that comes in these messages, as status and body."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict/batch", "raw_path": b"/predict/batch", "root_path": "", "query_string": b"",
        "headers": [(b"content-type", kind.encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    messages, sent = iter(messages), []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_a_client_that_goes_away_in_its_body_leaves_no_error(sqlite_client):
    piece = {"type": "http.request", "body": b'{"inputs": [', "more_body": True}
    with capture_logs() as logs:
        ask_directly(sqlite_client.app, "application/json", [piece, {"type": "http.disconnect"}])

    assert logs == []


def test_rows_refused_alone_are_counted_and_leave_one_line(sqlite_client, good_request):
    refused = sqlite_client.app.state.refused_requests
    with capture_logs() as logs:
        send(sqlite_client, {"inputs": [{}, good_request, []]}, on_error="skip")
        send(sqlite_client, "{}\nx\n\n[]", NDJSON)

    assert [(one["event"], one["rows"], one["of"]) for one in logs] == [("refused rows", 2, 3), ("refused rows", 3, 3)]
    assert sqlite_client.get("/health/ready").json()["refused_requests"] == refused + 5


def test_the_version_that_answers_is_the_one_that_serves_when_it_is_its_turn(sqlite_client, good_request, monkeypatch):
    # Another version may have served when the body began to arrive.
    production = sqlite_client.app.state.production
    old = production.predictor
    read_body = batches._read_body
    newer = copy.copy(old)
    newer.model_version = 2
    # It was put into production a moment ago.
    production._seen.note(2, time.monotonic() + 60)

    async def meanwhile(*arguments):
        monkeypatch.setattr(type(production), "predictor", property(lambda _: newer))
        return await read_body(*arguments)

    monkeypatch.setattr(batches, "_read_body", meanwhile)

    (answer,) = send(sqlite_client, {"inputs": [good_request]}).json()["predictions"]

    assert answer["model_version"] == 2


def test_no_more_batches_than_there_is_room_for_are_open(sqlite_client, monkeypatch):
    # Each batch makes room when it ends, with an answer or with an error.
    monkeypatch.setattr(open_batches, "_MOST_OPEN", 1)
    for body, status in (("x", 400), ('{"inputs": []}', 200), ('{"inputs": []}', 200)):
        assert send(sqlite_client, body).status_code == status
    monkeypatch.setattr(open_batches, "_MOST_OPEN", 0)

    refused = send(sqlite_client, "", NDJSON)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["type"] == "urn:zap:problem:too-busy"


# A stream whose client reads when it likes.


class Talk:
    """A conversation in which a line is a piece, is answered with ten thousand bytes, and read as it is told."""

    def __init__(self, pieces, pause=0.0):
        self.pieces, self.pause = pieces, pause
        self.taken, self.groups, self.sent = 0, [], b""
        self.reads, self.answered = asyncio.Event(), asyncio.Event()

    async def receive(self):
        if self.taken == self.pieces:
            await asyncio.sleep(60)
        self.taken += 1
        await asyncio.sleep(self.pause)
        return {"type": "http.request", "body": b"{}\n", "more_body": self.taken < self.pieces}

    async def send(self, message):
        await self.reads.wait()
        self.sent += message.get("body", b"")

    async def answer(self, lines):
        self.groups.append(len(lines))
        self.answered.set()
        return b"x" * 9_999 * len(lines) + b"\n"

    async def run(self):
        conversation = LineStream(None, self.answer, asyncio.Event()).to_asgi_response()
        await conversation({}, self.receive, self.send)


def test_answers_that_nobody_reads_end_the_reading_and_are_all_read_later(monkeypatch):
    monkeypatch.setattr(unread_answers, "_MOST_UNREAD", 200_000)
    monkeypatch.setattr(line_groups, "GROUP_LINES", 5)
    # What is waited for is told, not looked for.
    monkeypatch.setattr(line_groups, "_WAITING_SECONDS", 30)
    monkeypatch.setattr(slow_client, "_LOOK_SECONDS", 30)

    async def talk():
        talk = Talk(200)
        task = asyncio.create_task(talk.run())
        await asyncio.sleep(0.1)
        assert talk.taken < 50
        talk.reads.set()
        await asyncio.wait_for(task, 10)
        assert talk.sent.count(b"x") == 200 * 9_999
        assert talk.sent.count(b"\n") == len(talk.groups) == 40

    asyncio.run(talk())


@pytest.mark.parametrize("pieces", [200, 3])
def test_who_reads_nothing_is_let_go(monkeypatch, pieces):
    # A client that reads nothing is disconnected when much is unread, and when everything is answered.
    monkeypatch.setattr(unread_answers, "_MOST_UNREAD", 200_000)
    monkeypatch.setattr(line_groups, "GROUP_LINES", 5)
    monkeypatch.setattr(slow_client, "_UNREAD_SECONDS", 0.1)

    async def talk():
        talk = Talk(pieces)
        with capture_logs() as logs:
            await asyncio.wait_for(talk.run(), 5)
        assert talk.sent == b""
        assert ["disconnected" in one["event"] for one in logs] == [True]

    asyncio.run(talk())


def test_a_line_that_trickles_waits_no_longer_than_it_says(monkeypatch):
    monkeypatch.setattr(line_groups, "_WAITING_SECONDS", 0.4)

    async def talk():
        talk = Talk(1_000, pause=0.3)
        talk.reads.set()
        task = asyncio.create_task(talk.run())
        await asyncio.wait_for(talk.answered.wait(), 10)
        task.cancel()
        # The second comes 0.3 s after the first, and is answered with it; the third would come after 0.6 s.
        assert talk.groups[0] <= 2

    asyncio.run(talk())


# On a real socket.


def request_head(server, length):
    return (
        f"POST /predict/batch HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: {NDJSON}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


def read_all(connection):
    received = bytearray()
    while piece := connection.recv(65_536):
        received += piece
    return bytes(received)


def lines_in(received):
    """How many lines have come, of a reply in pieces."""
    _, _, body = received.partition(b"\r\n\r\n")
    whole = re.sub(rb"(^|\r\n)[0-9a-f]+\r\n", b"", body)
    return whole.count(b"\n") - whole.count(b"\r\n")


def peak_memory(server):
    """The most memory that the server has used, in MiB."""
    with open(f"/proc/{server.process.pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def test_streams_on_a_real_socket(server, good_request):
    # Lines are answered while more lines arrive. A client may send everything before it reads. Memory stays
    # bounded.
    line = json.dumps(good_request).encode() + b"\n"
    # A group that is whole is answered at once, others when nothing comes for a second.
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request_head(server, len(line) * 1_003) + line * 1_000)
        received = b""
        while lines_in(received) < 1_000:
            received += connection.recv(65_536)
        connection.sendall(line * 2)
        while lines_in(received) < 1_002:
            received += connection.recv(65_536)
        connection.sendall(line)
        assert lines_in(received + read_all(connection)) == 1_003
    before = peak_memory(server)
    # 20 MB of lines, and 10 MB of answers that nobody reads before all is sent: more than sockets take.
    sent = (b"{}" + b" " * 1_000 + b"\n") * 20_000
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.sendall(request_head(server, len(sent)) + sent)
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        received = read_all(connection)
    assert lines_in(received) == 20_000
    assert received.endswith(b"0\r\n\r\n")
    assert len(received) > 10_000_000
    assert peak_memory(server) - before < 10


def test_a_client_that_goes_away_ends_the_work_and_a_server_that_stops_says_so(server, trained_sqlite, good_request):
    line = json.dumps(good_request).encode() + b"\n"
    engine = create_engine(trained_sqlite.database_url)

    def logged():
        with engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(InferenceInput))

    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request_head(server, len(line) * 5_000) + line * 1_500)
        received = b""
        while lines_in(received) < 1_000:
            received += connection.recv(65_536)
    end = time.monotonic() + 0.9
    while time.monotonic() < end:
        assert logged() in {1_000, 1_500}
    after = logged()

    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request_head(server, len(line) * 5_000) + line * 10)
        received = b""
        while lines_in(received) < 10:
            received += connection.recv(65_536)
        server.process.terminate()
        received += read_all(connection)
    assert lines_in(received) == 11
    assert b'"line":11' in received
    assert b"the server is stopping" in received
    assert received.endswith(b"0\r\n\r\n")
    assert logged() == after + 10
    engine.dispose()
