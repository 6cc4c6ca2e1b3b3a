"""zap predict with history files: what is not known before a session never reaches the log or the model."""

import gzip
import io
import json
import re

import pandas as pd
import pytest
from sqlalchemy import select

from zap.db.tables import InferenceInput
from zap.errors import InvalidRequest, UnusableFile
from zap.formats.request import FIELDS
from zap.formats.request_columns import LEFT_OUT, field_of, split_row, told_columns
from zap.ml.features import FEATURES, MEASURED, STATION

LATER = {
    "session_id": 7,
    "charger_type": "Level 2",
    "charging_end_time": "2030-05-01T20:00:00",
    "energy_consumed_kwh": 24.5,
    "charging_duration_hours": 1.5,
    "charging_rate_kw": 16.3,
    "charging_cost_usd": 8.5,
    "state_of_charge_end": 68.5,
    "charging_station_id": "Station_391",
    "charging_station_location": "Houston",
    "time_of_day": "Evening",
    "day_of_week": "Monday",
    "timestamp": "2030-05-01T20:00:00",
}
HEADERS = {column.name: column.header for column in (*FEATURES, *MEASURED, *STATION) if column.header}


@pytest.fixture
def requests(good_request):
    return [
        good_request
        | {"user_id": "sample-1-00003", "distance_driven_km": n + 0.25, "temperature_c": None if n else 15.0}
        for n in range(3)
    ]


def as_csv(rows, delimiter=",", headers=None):
    frame = pd.DataFrame(rows).rename(columns=headers or {})
    return frame.to_csv(index=False, sep=delimiter).encode()


def as_lines(rows, headers=None):
    named = [{(headers or {}).get(name, name): value for name, value in row.items()} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in named).encode()


def as_parquet(rows):
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()


# The name of each file, and what is in it.
FILES = {
    "history.csv": as_csv,
    "history.CSV.GZ": lambda rows: gzip.compress(as_csv(rows)),
    "zipped.csv": lambda rows: gzip.compress(as_csv(rows)),
    "semicolons.csv": lambda rows: as_csv(rows, ";"),
    "public.csv": lambda rows: as_csv(rows, headers=HEADERS),
    "public-semicolons.csv.gz": lambda rows: gzip.compress(as_csv(rows, ";", HEADERS)),
    "index.csv": lambda rows: pd.DataFrame(rows).to_csv().encode(),
    "history.ndjson": as_lines,
    "history.ndjson.gz": lambda rows: gzip.compress(as_lines(rows)),
    "public.jsonl.gz": lambda rows: gzip.compress(as_lines(rows, HEADERS)),
    "history.parquet": as_parquet,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_answers_are_those_of_the_file_without_labels(sqlite_files, requests, tmp_path, name):
    (tmp_path / "plain.csv").write_bytes(as_csv(requests))
    (tmp_path / name).write_bytes(FILES[name]([request | LATER for request in requests]))

    plain = sqlite_files.predict(tmp_path / "plain.csv", tmp_path / "plain.out.csv", skip=False)
    report = sqlite_files.predict(tmp_path / name, tmp_path / "out.csv", skip=False)

    assert (plain.columns, plain.answered, report.answered, report.skipped) == ([], 3, 3, 0)
    # Every column that is left out is told, in one sentence.
    (left_out, *_) = report.columns
    for column in LATER:
        told = HEADERS.get(column, column) if "public" in name else column
        assert left_out.count(told) >= 1, column
    with sqlite_files.engine.connect() as connection:
        logged = [json.loads(text) for text in connection.scalars(select(InferenceInput.input_data_json))][-6:]
    assert [set(row) - set(FIELDS) for row in logged] == [set()] * 6
    assert logged[3:] == logged[:3]
    expected, found = pd.read_csv(tmp_path / "plain.out.csv"), pd.read_csv(tmp_path / "out.csv")
    chances = [column for column in expected if column.startswith("probability[")]
    assert found[chances].equals(expected[chances])
    # The label is beside the prediction, as it was in the file.
    label = "Charger Type" if name.startswith("public") and "csv" in name else "charger_type"
    assert found.get(label, found.get("Charger Type")).tolist() == ["Level 2"] * 3


@pytest.mark.parametrize("out", ["out.csv", "out.csv.gz", "out.ndjson", "out.jsonl.gz", "out.parquet"])
def test_every_output_has_the_labels_and_is_read_again(sqlite_files, requests, tmp_path, out):
    rows = [request | LATER for request in requests]
    for name in ("history.csv", "history.ndjson", "history.parquet", "public.csv"):
        (tmp_path / name).write_bytes(FILES[name](rows))
        sqlite_files.predict(tmp_path / name, tmp_path / out, skip=True)

        if "parquet" in out:
            found = pd.read_parquet(tmp_path / out)
        elif "csv" in out:
            found = pd.read_csv(tmp_path / out)
        else:
            found = pd.read_json(tmp_path / out, lines=True)
        named = {header: column for column, header in HEADERS.items()}
        found = found.rename(columns=named)
        assert found["charger_type"].tolist() == ["Level 2"] * 3
        assert found["energy_consumed_kwh"].astype(float).tolist() == [24.5] * 3
        assert found["distance_driven_km"].tolist() == [0.25, 1.25, 2.25]
        assert found["predicted_class"].notna().all()


def test_a_person_is_told_once_what_is_left_out_and_what_is_logged(zap_command, trained_sqlite, requests, tmp_path):
    source = tmp_path / "public.csv.gz"
    source.write_bytes(gzip.compress(as_csv([request | LATER for request in requests], headers=HEADERS)))

    done = zap_command("predict", source, "--out", tmp_path / "out.csv", settings=trained_sqlite)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Charger Type") == 1
    assert (
        "left out of the requests (not known before the session, or not a field of a request): session_id, Charger Type"
        in done.stderr
    )
    assert "read 'State of Charge (Start %)' as state_of_charge_start" in done.stderr
    written = pd.read_csv(tmp_path / "out.csv")
    first, last = written.iloc[0], written.iloc[-1]
    assert f"{tmp_path / 'out.csv'}: 3 answered, 0 skipped, by model version 1" in done.stdout
    assert f"input_id {first['input_id']} to {last['input_id']}" in done.stdout
    assert f"prediction_id {first['prediction_id']} to {last['prediction_id']}" in done.stdout

    again = zap_command("predict", source, "--out", tmp_path / "b.csv", "--json", settings=trained_sqlite)
    told = json.loads(again.stdout)
    assert (told["answered"], told["skipped"], told["model_version"]) == (3, 0, 1)
    assert told["first"] == {"input_id": last["input_id"] + 1, "prediction_id": last["prediction_id"] + 1}
    assert len(told["columns"]) == 2


def test_one_labelled_or_gzipped_request_is_answered(zap_command, trained_sqlite, requests, tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(requests[0] | LATER, indent=2))
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(json.dumps(requests[0]).encode()))

    labelled, zipped = (
        zap_command("predict", tmp_path / name, settings=trained_sqlite) for name in ("one.json", "one.json.gz")
    )

    assert labelled.returncode == zipped.returncode == 0, labelled.stderr + zipped.stderr
    assert json.loads(labelled.stdout)["probabilities"] == json.loads(zipped.stdout)["probabilities"]
    assert "one.json: left out" in labelled.stderr
    assert labelled.stderr.count("charger_type") == 1
    assert "left out" not in zipped.stderr


def test_rows_with_an_unknown_name_are_refused_and_told_so(sqlite_files, requests, tmp_path):
    source = tmp_path / "in.ndjson"
    unknown = [{f"colour {n}": n} for n in range(200)]
    source.write_bytes(as_lines([requests[0], requests[1] | LATER, *(requests[2] | one for one in unknown)]))

    report = sqlite_files.predict(source, tmp_path / "out.ndjson", skip=True)

    assert (report.answered, report.skipped) == (2, 200)
    left_out, refused = report.columns
    assert "charger_type" in left_out
    assert "colour" not in left_out
    assert refused.startswith(
        "rows with these names are refused, because the names are not fields of a request: 'colour 0', "
    )
    assert re.search(r"'colour 9' and [0-9]{2} more$", refused)


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("user_id", "user_id"),
        ("User ID", "user_id"),
        ("Vehicle ID", "vehicle_id"),
        ("Temperature (C)", "temperature_c"),
        ("charger_type", LEFT_OUT),
        ("Charger Type", LEFT_OUT),
        ("kWh", LEFT_OUT),
        ("Charging Cost (USD)", LEFT_OUT),
        ("", LEFT_OUT),
        ("Unnamed: 0", LEFT_OUT),
        ("__index_level_0__", LEFT_OUT),
        ("colour", None),
        ("predicted_class", None),
        ("x" * 10_000, None),
    ],
)
def test_what_a_header_means(header, field):
    assert field_of(header) == field


def test_nothing_that_is_known_later_is_a_field():
    for column in (*MEASURED, *STATION):
        assert field_of(column.name) == LEFT_OUT
        assert field_of(column.header) == LEFT_OUT
    assert told_columns(FIELDS) == []


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ('{"temperature_c": 1.50, "charger_type": "x"}', '{"temperature_c":1.50}'),
        ('{"Temperature (C)": 1e400, "kWh": 2}', '{"temperature_c":1e400}'),
        # Whatever is not clear is left to the reader of requests, who refuses it.
        ('{"temperature_c": 1, "temperature_c": 2, "charger_type": "x"}', None),
        ('{"temperature_c": 1, "Temperature (C)": 2}', None),
        ('{"temperature_c": 1}', None),
        ('{"charger_type": }', None),
        ("[1]", None),
        ('{"charger_type": ' + "[" * 5_000, None),
        (r'{"charger_type": "\ud800"', None),
    ],
)
def test_a_json_object_is_split(text, request_):
    assert split_row(text.encode()).request.decode() == (text if request_ is None else request_)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.csv.gz", gzip.compress(b"user_type\n" * 9_000, mtime=0)[:-20], "in.csv.gz cannot be unzipped"),
        ("in.ndjson.gz", b"\x1f\x8bno", "in.ndjson.gz cannot be unzipped"),
        ("in.parquet.gz", b"", "in.parquet.gz does not end in .csv"),
        ("in.csv.gz", gzip.compress(b"user_type\n\xff\n", mtime=0), "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_unzipped_is_refused(  # noqa: PLR0917
    zap_command, trained_sqlite, tmp_path, name, content, told
):
    (tmp_path / name).write_bytes(content)

    done = zap_command("predict", tmp_path / name, "--out", tmp_path / "out.csv", settings=trained_sqlite)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_two_columns_of_one_meaning_are_refused(sqlite_files, tmp_path):
    (tmp_path / "in.csv").write_text("user_id,User ID,temperature_c\na,b,1\n")

    with pytest.raises(InvalidRequest) as caught:
        sqlite_files.predict(tmp_path / "in.csv", tmp_path / "out.csv", skip=True)

    (error,) = caught.value.details["errors"]
    assert error == {"pointer": "#/User ID", "detail": "means user_id, and so does 'user_id'; leave one out"}


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.parquet", "in.ndjson"])
def test_a_table_without_out_is_told_what_it_needs(zap_command, trained_sqlite, requests, tmp_path, name):
    (tmp_path / name).write_bytes(as_lines(requests))

    done = zap_command("predict", tmp_path / name, settings=trained_sqlite)

    assert done.returncode == 2
    assert "is a table: name a file for the predictions, such as --out answers.csv" in done.stderr


def test_a_request_that_is_too_large_is_refused(zap_command, trained_sqlite, tmp_path):
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b" " * 50_000_000))

    done = zap_command("predict", tmp_path / "bomb.json.gz", settings=trained_sqlite)

    assert done.returncode == 2
    assert "larger than a request can be" in done.stderr


def test_unusable_files_are_told_before_anything_is_read(sqlite_files, tmp_path):
    with pytest.raises(UnusableFile, match=r"out\.parquet\.gz does not end in"):
        sqlite_files.predict(tmp_path / "nothing.csv", tmp_path / "out.parquet.gz", skip=True)
