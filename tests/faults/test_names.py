"""Names that a client makes up, of a megabyte: on every route and in every header of a CSV."""

import json
import time

import pytest
from conftest import client_of

from zap.errors import BadHistoryFile, MalformedJson
from zap.formats.history_cells import read_numbers
from zap.formats.history_file import parse_history
from zap.formats.json_body import load_json
from zap.formats.request_csv import csv_records

# Each kind was slow in a way of its own: brackets and blanks in a search, letters in a comparison.
NAMES = {kind: part * (1_000_000 // len(part)) for kind, part in
         {"brackets": "(", "blanks": " ", "letters": "a_", "fields": "user_id", "pointers": "~/"}.items()}  # fmt: skip
# As many as the smaller bodies may hold.
SHORTER = 60_000

ROUTES = {
    "/predict": lambda name: json.dumps({name[:SHORTER]: 1}),
    "/predict/batch": lambda name: json.dumps({"inputs": [{name[:SHORTER]: 1}, {name: 1}], name: 1}),
    "/charging-sessions": lambda name: json.dumps([{"session_id": 1, name: 1}]),
    "/train-model": lambda name: json.dumps({name[:SHORTER]: 1}),
    "/train-model#nested": lambda name: json.dumps({"hyper_parameters": {name[:SHORTER]: 1}}),
    "/models/1/promote": lambda name: json.dumps({name[:SHORTER]: 1}),
    "/models/rollback": lambda name: json.dumps({name[:SHORTER]: 1}),
}


@pytest.fixture(scope="module")
def app_client(_trained_sqlite, tmp_path_factory):
    import shutil  # noqa: PLC0415

    from zap.settings import Settings  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("names")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


def asked(client, path, body, kind="application/json"):
    """The reply, which took little of the processor and is small."""
    before = time.process_time()
    reply = client.post(path.partition("#")[0], content=body, headers={"Content-Type": kind})
    assert time.process_time() - before < 0.5
    assert len(reply.content) < 20_000
    return reply


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("path", ROUTES)
def test_a_name_of_a_megabyte_is_refused_at_once_and_not_sent_back(app_client, path, name):
    reply = asked(app_client, path, ROUTES[path](name))

    assert reply.status_code == 422
    assert "is not a field" in reply.text


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_lines_are_refused_as_fast(app_client, name):
    lines = "\n".join(json.dumps({name[:SHORTER]: 1}) for _ in range(5))

    reply = asked(app_client, "/predict/batch", lines, "application/x-ndjson")

    assert [len(json.loads(line)["errors"]) >= 1 for line in reply.text.splitlines()] == [True] * 5


@pytest.mark.parametrize("length", [SHORTER, 1_000_000])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_column_is_refused_as_fast(app_client, name, length):
    reply = asked(app_client, "/predict/batch", f"{name[:length]},user_id\n1,2\n", "text/csv")

    # The reader of CSV takes no name of more than 131,072 characters.
    assert reply.status_code in {400, 422}


def test_many_names_that_are_nearly_fields_are_refused_at_once(app_client):
    body = json.dumps({f"state_of_charge_strt{number}": 1 for number in range(1_500)})

    reply = asked(app_client, "/predict", body)

    assert "did you mean state_of_charge_start?" in reply.text
    assert len(reply.json()["errors"]) == 100


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_history_with_such_a_column_is_read_as_fast(name):
    before = time.process_time()

    history = parse_history([f"charger_type,charging_start_time,x{name[:SHORTER]}\n"], lambda moment: moment)
    with pytest.raises(BadHistoryFile) as refused:
        parse_history([f"User ID{' ' * 100_000}{NAMES['blanks']},{name},user_id\n"], lambda moment: moment)

    assert time.process_time() - before < 0.5
    assert len(history.ignored_columns[0]) < 200
    assert len(refused.value.message) < 1_000


@pytest.mark.parametrize(
    "text", ["1" * 130_000 + "x", "." + "1" * 130_000 + "x", "1" * 65_000 + "." + "1" * 65_000 + "x"]
)
def test_a_cell_of_many_digits_is_read_as_fast(text):
    from collections import defaultdict  # noqa: PLC0415

    before = time.process_time()
    problems = defaultdict(list)

    read_numbers("temperature_c", [text], problems)

    assert time.process_time() - before < 0.2
    assert len(problems[0][0]) < 200


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_requests_with_such_a_column_is_refused_as_fast(zap_command, trained_sqlite, tmp_path, name):
    # Most of the time is the start of Python.
    (tmp_path / "rows.csv").write_text(f"x{name[:SHORTER]},user_id\n1,2\n")
    before = time.perf_counter()

    done = zap_command("predict", tmp_path / "rows.csv", "--out", tmp_path / "out.csv", settings=trained_sqlite)

    assert done.returncode == 2
    assert len(done.stderr) < 2_000
    assert time.perf_counter() - before < 30


def test_a_query_of_many_letters_is_not_sent_back(app_client):
    reply = app_client.post("/predict/batch", params={"on_error": "x" * 50_000}, content=b"{}",
                            headers={"Content-Type": "application/json"})  # fmt: skip

    assert reply.status_code == 400
    assert len(reply.content) < 1_000


def test_numbers_that_json_does_not_have_are_told_for_so_many_places():
    with pytest.raises(MalformedJson) as refused:
        load_json("[" + "NaN," * 10_000 + "NaN]", "a list")

    assert len(refused.value.details["errors"]) == 100
    assert "#/0" in refused.value.message


def test_a_header_with_the_names_is_split_as_fast():
    before = time.process_time()

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it is told at once
        csv_records([";".join(["x"] * 500_000) + "\n"])

    assert time.process_time() - before < 1
