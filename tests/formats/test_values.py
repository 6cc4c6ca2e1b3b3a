"""Texts, ids and times: reports, requests and history files accept the same values, and the manual says which."""

import io
import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from histories import START
from pyarrow import parquet

from zap.errors import InvalidRequest
from zap.flows.history_import import read_file
from zap.formats import values
from zap.formats.history_file import parse_history
from zap.formats.request import complete_request, parse_request, request_schema
from zap.formats.request_csv import read_csv
from zap.formats.request_files import read_file as read_requests
from zap.formats.session_ids import SESSION_TEXT
from zap.formats.session_report import parse_report
from zap.ml import cells
from zap.ml.cells import Spellings, plain_id, plain_text, read_text
from zap.ml.features import FEATURES
from zap.settings import Settings

REFERENCE = (Path(__file__).resolve().parents[2] / "zap" / "manual" / "reference.md").read_text(encoding="utf-8")
GOOD = {feature.name: feature.example for feature in FEATURES if not feature.context}
KNOWN = {"user_type": ["Commuter", "Casual Driver"], "vehicle_model": ["Nissan LEAF"]}
NOW = datetime.fromisoformat("2026-03-02T18:30:00")
WORDS = [
    *("NULL", "null", "nan", "NaN", "N/A", "n/a", "NA", r"\N", "-", "#N/A", "None", "<NA>"),
    *("", " ", "\u00a0 NULL\u200b"),
]
wall_time = Settings(timezone="Europe/London").wall_time


def report(**fields):
    """Return the fields of a report that are known, or the details of its errors."""
    read = parse_report(json.dumps(START | fields).encode(), wall_time)
    return read.errors[0]["detail"] if read.errors else read.sessions[0].values  # noqa: PD011 - no frame


def request(*, need="required", **fields):
    """Return a completed request, or the details of its errors."""
    contract = {"fields": {feature.name: need for feature in FEATURES}, "categories": KNOWN}
    try:
        read = parse_request(json.dumps(GOOD | fields).encode(), wall_time)
        return {**read.values, **complete_request(read, {}, contract, NOW)}  # noqa: PD011 - no frame
    except InvalidRequest as error:
        return error.details["errors"][0]["detail"]


def imported(**fields):
    """Return the row of a history file, or why it is refused."""
    history = parse_history(io.StringIO(json.dumps([START | fields]), newline=""), wall_time)
    return history.refused[0].reason if history.refused else history.sessions.to_dict("records")[0]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_nothing_is_null(word):
    texts = ("user_id", "charger_type", "charging_station_id", "charging_start_time", "charging_end_time")
    for name in texts:
        assert name not in report(**{name: word})
    assert pd.isna(imported(charging_station_id=word, user_id=word)["user_id"])
    assert request(charging_start_time=word) == request()
    assert request(user_type=word, need="nullable")["user_type"] is None
    assert request(user_type=word).startswith(f"is {word!r}, which counts as null")
    assert read_text(word) is None


def test_each_word_is_in_the_manual():
    (section,) = re.findall(r"\*\*Words for a missing value\.\*\*.*?\n\n", REFERENCE, re.DOTALL)

    assert {*re.findall(r"`([^`]+)`", section)} == cells._NOTHING - {""}


@pytest.mark.parametrize("word", ["NULL", "n/a", "-", "NaN", " "])
def test_a_word_for_nothing_in_a_cell_of_numbers_is_null(word):
    (row,) = read_csv(f"temperature_c,vehicle_id,user_type,user_id\n{word},{word},{word},x\n".encode(), 10).texts

    # A text stays as it was sent; the reader of requests reads it as null.
    assert json.loads(row) == {"temperature_c": None, "vehicle_id": None, "user_type": word, "user_id": "x"}


@pytest.mark.parametrize(
    "text",
    [
        *("Casual Driver", " Casual Driver", "Casual Driver  ", "Casual  Driver", "Casual\u00a0Driver"),
        *("Casual\u202f \u2009Driver", "\ufeffCasual Driver\u200b", "Ca\u00adsual Driver", "\u200eCasual Driver\u202c"),
    ],
)
def test_another_spelling_is_the_same_name(text):
    assert report(charger_type=text)["charger_type"] == "Casual Driver"
    assert imported(charger_type=text)["charger_type"] == "Casual Driver"
    assert request(user_type=text)["user_type"] == "Casual Driver"
    assert read_text(text) == plain_text(text) == Spellings(KNOWN["user_type"]).spaced(text) == "Casual Driver"


@pytest.mark.parametrize("text", ["casual driver", "CasualDriver", "Casual-Driver", "Casual Driver 2"])
def test_a_text_that_looks_different_is_another_name(text):
    assert text == "casual driver" or "which is not in the history" in request(user_type=text)
    assert report(charger_type=text)["charger_type"] == text
    assert read_text(text) == text


def test_an_older_version_may_know_a_name_in_another_form():
    older = Spellings(["Casual\u00a0Driver"])
    assert older.spaced("Casual Driver") == older.meant("casual driver") == "Casual\u00a0Driver"
    both = Spellings(["Casual\u00a0Driver", "Casual Driver"])
    assert both.spaced("Casual\u00a0Driver") == both.meant("casual driver") == "Casual Driver"


@pytest.mark.parametrize("text", ["casual driver", "CASUAL DRIVER", " casual\u00a0 Driver", "\ufeffcasual driver"])
def test_a_request_may_send_a_known_name_in_other_upper_and_lower_case(text):
    assert request(user_type=text)["user_type"] == "Casual Driver"
    assert read_text(text) != "Casual Driver"


def test_a_fact_of_the_database_may_have_other_upper_and_lower_case_too():
    contract = {"fields": dict.fromkeys(GOOD | {"vehicle_model": 0, "charging_start_time": 0}, "nullable")}
    contract |= {"categories": KNOWN}
    read = parse_request(b"{}", wall_time)
    facts = dict.fromkeys(GOOD) | {"user_type": "casual driver ", "vehicle_model": "nissan leaf"}

    completed = complete_request(read, facts, contract, NOW)

    assert (completed["user_type"], completed["vehicle_model"]) == ("Casual Driver", "Nissan LEAF")


def test_upper_and_lower_case_decide_between_names_that_differ_only_in_them():
    known = Spellings(["AC", "ac", "DC"])

    assert [known.meant(text) for text in ("AC", "ac", " ac ", "Ac", "dc")] == ["AC", "ac", "ac", None, "DC"]
    assert known.spaced("dc") is None


@pytest.mark.parametrize(
    ("text", "plain"),
    [("7", "7"), ("7.0", "7"), (" 7.00\u00a0", "7"), ("0.0", "0"), ("7.5", "7.5"), ("007.0", "007.0"), ("v7.0", "v7.0"),
     ("7.0.0", "7.0.0"), ("1.10", "1.10"), ("٧.0", "٧.0"), ("User  1", "User 1")],
)  # fmt: skip
def test_the_id_of_a_driver_or_a_station(text, plain):
    assert plain_id(text) == plain
    assert imported(user_id=text, charging_station_id=text)["user_id"] == plain
    assert report(charging_station_id=text)["charging_station_id"] == plain


# Each value that is accepted everywhere or nowhere, with the field that has it in reports and files, and in requests.
EDGES = [
    *(("user_id", "user_id", text, good) for text, good in [
        ("x" * values.LONGEST_TEXT, True), ("x" * (values.LONGEST_TEXT + 1), False), ("a\nb", False), ("a\x7fb", False),
        ("a\x80b", False), ("a\x9fb", False), ("a\u00a0b", True), ("Zoë 充电", True)]),
    *(("charging_start_time", "charging_start_time", text, good) for text, good in [
        (f"{values.FIRST_YEAR}-01-01T00:00:00", True), (f"{values.FIRST_YEAR - 1}-12-31T23:59:59", False),
        (f"{values.LAST_YEAR}-12-31T23:59:59", True), (f"{values.LAST_YEAR + 1}-01-01T00:00:00", False),
        ("0014-05-01T10:00:00", False), ("9999-12-31T23:59:59", False), ("0001-01-01T00:00:00+14:00", False),
        ("2026-03-02T18:30", True), ("2026-03-02 18:30:00.75", True), ("2026-03-02T18:30:00Z", True),
        ("2026-03-02T18:30:00-0930", True), ("2026-03-02T18:30:00+25:00", False), ("2026-02-30T18:30:00", False),
        ("20260302T183000Z", True), ("2026-W10-1T18:30:00", True), ("2026-03-02T25:00:00", False), ("soon", False)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "asked", "value", "good"), EDGES)
def test_a_value_is_accepted_everywhere_or_nowhere(name, asked, value, good):
    found = (report(**{name: value}), imported(**{name: value}), request(**{asked: value}))

    assert [isinstance(one, dict) for one in found] == [good] * 3
    if good and name == "charging_start_time":
        assert len({str(pd.Timestamp(one[name])) for one in found}) == 1
    elif not good and "years" in str(found[1]):
        years = f"in the years {values.FIRST_YEAR} to {values.LAST_YEAR}"
        assert all(years in one for one in found)


def test_the_document_has_the_years_of_sessions():
    pattern = request_schema(None)["properties"]["charging_start_time"]["pattern"]
    years = [year for year in range(10_000) if re.search(pattern, f"{year:04}-03-02T18:30")]

    assert years == [*range(values.FIRST_YEAR, values.LAST_YEAR + 1)]


@pytest.mark.parametrize(
    ("value", "of_a_report", "of_a_file"),
    [
        (0, True, True),
        (values.LARGEST_SESSION_ID, True, True),
        # In a file it is a text of digits. In JSON many programs would change its digits.
        (values.LARGEST_SESSION_ID + 1, False, True),
        # zap's own number of a session without an id, as in an exported history.
        (-1, False, True),
    ],
)
def test_the_id_of_a_session(value, of_a_report, of_a_file):
    assert isinstance(report(session_id=value), dict) == of_a_report
    assert isinstance(imported(session_id=value), dict) == of_a_file


@pytest.mark.parametrize(
    ("text", "good"),
    [(".", False), ("..", False), ("....", False), (". ..", False), (".a", True), ("..a", True), ("a..", True),
     (".. a", True), ("a . b", True), (". . é", True), ("1.0.0", True)],
)  # fmt: skip
def test_an_id_of_dots_cannot_be_in_a_path_and_is_refused(text, good):
    found = (report(session_id=text), imported(session_id=text))

    assert [isinstance(one, dict) for one in found] == [good] * 2
    assert bool(re.fullmatch(SESSION_TEXT, text)) == good
    assert good or all("an id of dots cannot be in the path of a request" in one for one in found)


@pytest.mark.parametrize(("value", "good"), [(0, True), (values.LARGEST_ID, True), (values.LARGEST_ID + 1, False)])
def test_the_id_of_a_vehicle(value, good):
    assert [isinstance(one, dict) for one in (report(vehicle_id=value), request(vehicle_id=value))] == [good] * 2


@pytest.mark.parametrize(
    ("end", "good"),
    [("2027-03-03T18:30:00", True), ("2027-03-03T18:30:01", False), ("2026-03-02T18:30:00", True),
     ("2026-03-02T18:29:59", False), ("2027-03-03T18:30:00Z", True)],
)  # fmt: skip
def test_a_session_lasts_a_year_at_most(end, good):
    found = report(charging_end_time=end), imported(charging_end_time=end)

    assert [isinstance(one, dict) for one in found] == [good] * 2


def test_the_table_of_the_manual_has_these_bounds():
    table = REFERENCE.split("## Values")[1].split("\n\n**")[0]

    for bound in (
        f"at most {values.LONGEST_TEXT} characters",
        f"0 to {values.LARGEST_SESSION_ID:,}",
        f"0 to {values.LARGEST_ID:,}",
        f"in the years {values.FIRST_YEAR} to {values.LAST_YEAR}",
        f"at most {values.LONGEST_SESSION.days} days",
    ):
        assert bound in table


# The driver 7 in every format of a history: as a text, as a whole number, and as a float beside a missing value.
CSV = "user_id,charger_type,charging_start_time\n{},A,2026-03-02 18:30\n,A,2026-03-02 18:30\n"
ROWS = [{"charger_type": "A", "charging_start_time": "2026-03-02 18:30"}] * 2
COLUMNS = {
    "strings": ["7", None],
    "decimals as strings": ["7.0", None],
    "int64": pa.array([7, None], pa.int64()),
    "int32": pa.array([7, None], pa.int32()),
    "float64": np.array([7.0, np.nan]),
    "float32": np.array([7.0, np.nan], np.float32),
    "decimal": pa.array([7, None], pa.decimal128(9, 2)),
    "dictionary": pa.array(["7", None]).dictionary_encode(),
}


@pytest.mark.parametrize("cell", ["7", "7.0", '"7"', " 7 ", "7.000", "\u00a07"])
def test_one_driver_in_a_csv_history(cell):
    assert parse_history(io.StringIO(CSV.format(cell)), wall_time).users["user_id"].tolist() == ["7"]


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0"])
@pytest.mark.parametrize("write", [json.dumps, lambda rows: "\n".join(map(json.dumps, rows))])
def test_one_driver_in_a_json_history(value, write):
    text = write([ROWS[0] | {"user_id": value}, ROWS[1] | {"user_id": None}])

    assert parse_history(io.StringIO(text), wall_time).users["user_id"].tolist() == ["7"]


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_one_driver_in_parquet(tmp_path, column):
    parquet.write_table(pa.table(pd.DataFrame(ROWS).to_dict("list") | {"user_id": column}), tmp_path / "in.parquet")
    start = [row["charging_start_time"] for row in ROWS]
    asked = {"charging_start_time": start, "user_id": column, "vehicle_model": column}
    parquet.write_table(pa.table(asked), tmp_path / "asked.parquet")

    history = read_file(tmp_path / "in.parquet", wall_time=wall_time)
    with read_requests(tmp_path / "asked.parquet") as source:
        first, second = [record.request() for record in source.records]

    assert history.users["user_id"].tolist() == ["7"]
    assert (plain_id(first["user_id"]), second["user_id"], second["vehicle_model"]) == ("7", None, None)
    assert plain_id(first["vehicle_model"]) == "7"


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('{"user_id": 7, "vehicle_id": 12.0}', {"user_id": "7", "vehicle_id": 12}),
        ('{"vehicle_id":12.00,"user_id":7.0}', {"user_id": "7", "vehicle_id": 12}),
        ('{"user_id" : 9007199254740993 }', {"user_id": "9007199254740993"}),
        ('{"user_id": 7.50}', {"user_id": "7.5"}),
        ('{"user_id": "7.0", "vehicle_id": 12}', {"user_id": "7.0", "vehicle_id": 12}),
        ('{"user_id": null, "vehicle_id": 12.5}', {"user_id": None, "vehicle_id": 12.5}),
        (r'{"vehicle_model": "\"user_id\": 7}"}', {"vehicle_model": '"user_id": 7}'}),
        (r'{"vehicle_model": "\"vehicle_id\": 7.0}"}', {"vehicle_model": '"vehicle_id": 7.0}'}),
        ('{"user_id": 007}', {}),
        ('{"user_id": 7.}', {}),
    ],
)  # fmt: skip
def test_the_ids_of_a_line_in_a_file(tmp_path, line, fields):
    (tmp_path / "in.ndjson").write_text(f"{line}\n")

    with read_requests(tmp_path / "in.ndjson") as source:
        (record,) = source.records

    assert record.request() == fields


@pytest.mark.parametrize("value", [7, 7.0, True])
def test_a_number_in_a_json_body_is_no_driver(value):
    assert request(user_id=value).startswith("must be a string")
    assert report(user_id=value).startswith("must be a string")
