"""zap predict FILE --out FILE."""

import csv
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from zap.cli import main
from zap.db.tables import InferenceInput, Prediction
from zap.errors import InvalidRequest, LogUnavailable, MalformedCsv, UnusableFile
from zap.formats.request_files import read_file

DRIVER = "sample-1-00003"
TYPES = ["DC Fast Charger", "Level 1", "Level 2"]
ANSWER = ["predicted_class", "model_version", "input_id", "prediction_id", *(f"probability[{name}]" for name in TYPES)]


@pytest.fixture
def requests(good_request):
    """1,203 requests, some of known drivers."""
    return [
        good_request
        | {
            "distance_driven_km": float(n),
            "temperature_c": None if n % 7 == 0 else n % 30 + 0.5,
            "user_id": DRIVER if n % 100 == 0 else None,
            "vehicle_id": n if n % 50 == 0 else None,
            "charging_start_time": f"2030-05-01T{n % 24:02}:00:00",
        }
        for n in range(1_203)
    ]


@pytest.fixture
def out(tmp_path):
    """Where answers may be written, by the kind of the file."""
    return lambda kind: tmp_path / f"out.{kind}"


@pytest.fixture
def write(tmp_path):
    """Writes requests to a file, and says where it is."""

    def to(name, requests):
        path = tmp_path / name
        frame = pd.DataFrame(requests)
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix == ".parquet":
            frame.assign(
                charging_start_time=pd.to_datetime(frame["charging_start_time"]),
                user_type=frame["user_type"].astype("category"),
            ).to_parquet(path, index=False)
        else:
            path.write_text("".join(json.dumps(request) + "\n" for request in requests))
        return path

    return to


@pytest.fixture
def logged(rows):
    """How many requests and answers a database holds."""

    class App:
        def __init__(self, engine):
            self.state = self
            self.engine = engine

    def count(engine):
        return len(rows(App(engine), InferenceInput)), sum(
            row["source"] == "inference" for row in rows(App(engine), Prediction)
        )

    return count


def read(path):
    """The rows of a file, and what is answered to each in one form."""
    if path.suffix == ".csv":
        found = list(csv.DictReader(path.read_text().splitlines()))
    elif path.suffix == ".parquet":
        found = pd.read_parquet(path).to_dict("records")
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        for row in found:
            row.update({f"probability[{name}]": chance for name, chance in row.pop("probabilities", {}).items()})
    answers = [(row["predicted_class"], *(float(row[f"probability[{name}]"]) for name in TYPES)) for row in found]
    return found, answers


def test_it_works(zap_command, trained_sqlite, requests, write, tmp_path):
    # Predict for files from the shell, bit-identical to the server's answers.
    out = tmp_path / "answers.csv"
    done = zap_command("predict", write("sessions.csv", requests), "--out", out, settings=trained_sqlite)

    assert done.returncode == 0, done.stderr
    assert "1,203 answered, 0 skipped" in done.stdout
    assert "checking ..." in done.stderr
    assert "predicting ..." in done.stderr
    found, answers = read(out)
    assert list(found[0]) == [*requests[0], *ANSWER]
    assert [row["distance_driven_km"] for row in found] == [str(request["distance_driven_km"]) for request in requests]
    alone = zap_command("predict", settings=trained_sqlite, text=json.dumps(requests[100]))
    single = json.loads(alone.stdout)
    assert answers[100] == (single["predicted_class"], *single["probabilities"].values())
    assert single["history_sessions"] > 0
    assert single["input_id"] == int(found[-1]["input_id"]) + 1


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_every_format_is_read_and_written(files, requests, write, logged, kind):
    answers = []
    for name in ("csv", "jsonl", "parquet"):
        source = write(f"sessions.{name}", requests)
        out = source.with_suffix(f".out.{kind}")
        report = files.predict(source, out, skip=False)
        assert (report.answered, report.skipped) == (1_203, 0)
        found, answer = read(out)
        answers.append(answer)
        assert {*ANSWER, *requests[0]} <= {*found[0]}
        assert [float(row["distance_driven_km"]) for row in found] == [row["distance_driven_km"] for row in requests]
        ids = [int(row["input_id"]) for row in found]
        assert ids == sorted(set(ids))
    assert answers[0] == answers[1] == answers[2]
    assert logged(files.engine) == (3_609, 3_609)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_a_known_name_in_another_spelling_gives_the_same_row(sqlite_files, requests, write, tmp_path, kind):
    exact = requests[:3]
    other = [request | {"user_type": f" {request['user_type'].upper()}\u00a0"} for request in exact]

    sqlite_files.predict(write(f"exact.{kind}", exact), tmp_path / f"a.{kind}", skip=False)
    sqlite_files.predict(write(f"other.{kind}", other), tmp_path / f"b.{kind}", skip=False)

    inferred = select(Prediction.features).where(Prediction.source == "inference").order_by(Prediction.prediction_id)
    with sqlite_files.engine.connect() as connection:
        scored = connection.scalars(inferred).all()
    assert len(scored) == 6
    assert scored[3:] == scored[:3]


def test_parquet_keeps_the_types_of_its_columns(sqlite_files, requests, write, tmp_path):
    source = write("sessions.parquet", requests)

    sqlite_files.predict(source, tmp_path / "out.parquet", skip=False)

    before, after = pd.read_parquet(source), pd.read_parquet(tmp_path / "out.parquet")
    assert after["charging_start_time"].dtype == before["charging_start_time"].dtype
    assert np.array_equal(after["vehicle_id"], before["vehicle_id"], equal_nan=True)
    assert after["prediction_id"].dtype == np.int64
    assert after["probability[Level 1]"].dtype == np.float64


@pytest.fixture
def mixed(requests):
    """Requests of which three are bad."""
    requests[3] |= {"temperature_c": 99.0}
    requests[1_100] |= {"user_type": "Astronaut", "vehicle_id": -1}
    requests[1_200] |= {"battery_capacity_kwh": None}
    return requests


def test_with_a_bad_row_nothing_is_logged_or_written(files, mixed, write, logged, out):
    with pytest.raises(InvalidRequest) as caught:
        files.predict(write("in.csv", mixed), out("csv"), skip=False)

    told = [(error["line"], error["pointer"]) for error in caught.value.details["errors"]]
    assert told == [
        (5, "#/temperature_c"),
        (1_102, "#/vehicle_id"),
        (1_102, "#/user_type"),
        (1_202, "#/battery_capacity_kwh"),
    ]
    assert logged(files.engine) == (0, 0)
    assert [*out("csv").parent.glob("out*")] == []


def test_errors_are_told_by_line(zap_command, trained_sqlite, mixed, write, out):
    done = zap_command("predict", write("in.csv", mixed[:5]), "--out", out("csv"), settings=trained_sqlite)

    assert done.returncode == 2
    assert "line 5 #/temperature_c is 99.0; must be -60 to 60 °C" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_bad_rows_can_be_skipped_and_stand_in_their_place(sqlite_files, mixed, write, tmp_path, kind):
    source, out = write(f"in.{kind}", mixed), tmp_path / f"out.{kind}"

    report = sqlite_files.predict(source, out, skip=True)

    assert (report.answered, report.skipped) == (1_200, 3)
    if kind == "ndjson":
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert found[3]["line"] == 4
    else:
        found = (pd.read_csv if kind == "csv" else pd.read_parquet)(out).replace({np.nan: None}).to_dict("records")
        assert found[3]["predicted_class"] is None
        assert found[4]["errors"] in {None, ""}
    assert len(found) == len(mixed)
    assert "#/temperature_c" in str(found[3]["errors"])
    assert found[4]["predicted_class"] in TYPES
    assert found[3]["distance_driven_km"] == 3.0


def test_rows_of_another_width_and_lines_that_are_no_json(sqlite_files, good_request, tmp_path):
    (tmp_path / "in.csv").write_text(
        ",".join(good_request) + "\n1,2\n" + ",".join(map(str, good_request.values())) + "\n"
    )
    (tmp_path / "in.ndjson").write_text("hello\n\n[]\n" + json.dumps(good_request))

    for name, answered, skipped in (("in.csv", 1, 1), ("in.ndjson", 1, 2)):
        for kind in ("csv", "ndjson", "parquet"):
            report = sqlite_files.predict(tmp_path / name, tmp_path / f"out.{kind}", skip=True)
            assert (report.answered, report.skipped) == (answered, skipped)
    with pytest.raises(InvalidRequest) as caught:
        sqlite_files.predict(tmp_path / "in.ndjson", tmp_path / "out.csv", skip=False)
    assert [error["line"] for error in caught.value.details["errors"]] == [1, 3]


def test_a_line_that_is_not_utf_8_is_a_bad_row(sqlite_files, good_request, tmp_path):
    row = json.dumps(good_request).encode()
    (tmp_path / "in.ndjson").write_bytes(row + b"\n" + row.replace(b"Commuter", b"\xff") + b"\n" + row)

    for kind in ("csv", "ndjson", "parquet"):
        report = sqlite_files.predict(tmp_path / "in.ndjson", tmp_path / f"out.{kind}", skip=True)
        assert (report.answered, report.skipped) == (2, 1)
    with pytest.raises(InvalidRequest) as caught:
        sqlite_files.predict(tmp_path / "in.ndjson", tmp_path / "out.csv", skip=False)
    assert [error["line"] for error in caught.value.details["errors"]] == [2]


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_infinity_in_parquet_is_refused_and_not_missing(sqlite_files, requests, write, tmp_path, number):
    requests[1] |= {"temperature_c": number}
    source = write("in.parquet", requests[:3])

    with pytest.raises(InvalidRequest) as caught:
        sqlite_files.predict(source, tmp_path / "out.csv", skip=False)

    assert [(error["line"], error["pointer"]) for error in caught.value.details["errors"]] == [(2, "#/temperature_c")]


def test_decimals_in_parquet_are_numbers(sqlite_files, requests, tmp_path):
    frame = pd.DataFrame(requests[:3])
    decimals = frame.assign(
        distance_driven_km=[Decimal("0.10"), Decimal("1.50"), Decimal("2.00")],
        vehicle_id=[Decimal(7), Decimal(8), None],
    )
    decimals.to_parquet(tmp_path / "in.parquet", index=False)

    assert sqlite_files.predict(tmp_path / "in.parquet", tmp_path / "out.csv", skip=False).answered == 3

    with sqlite_files.engine.connect() as connection:
        logged = [json.loads(text) for text in connection.scalars(select(InferenceInput.input_data_json))][-3:]
    assert [row["distance_driven_km"] for row in logged] == [0.1, 1.5, 2]
    assert [row["vehicle_id"] for row in logged] == [7, 8, None]


def test_names_of_a_bad_line_that_are_also_those_of_answers_are_kept_apart(sqlite_files, good_request, tmp_path):
    others = {"predicted_class": "mine", "errors": "mine", "line": 7}
    (tmp_path / "in.ndjson").write_text(f"{json.dumps(good_request)}\n{json.dumps(good_request | others)}\n")

    for kind in ("csv", "ndjson", "parquet"):
        sqlite_files.predict(tmp_path / "in.ndjson", tmp_path / f"out.{kind}", skip=True)

    _, bad = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert bad["other_fields"] == others
    assert bad["line"] == 2
    assert len(bad["errors"]) == 3
    assert bad["user_type"] == good_request["user_type"]
    for frame in (pd.read_csv(tmp_path / "out.csv"), pd.read_parquet(tmp_path / "out.parquet")):
        assert [*frame.columns] == [*good_request, *ANSWER, "errors"]
        assert frame["predicted_class"].isna().tolist() == [False, True]


def test_a_column_that_is_no_field_is_told_and_nothing_is_done(sqlite_files, requests, write, logged, tmp_path):
    for name in ("in.csv", "in.parquet"):
        path = write(name, [request | {"colour": "red"} for request in requests[:5]])
        with pytest.raises(InvalidRequest) as caught:
            sqlite_files.predict(path, tmp_path / "out.csv", skip=True)
        assert [error["pointer"] for error in caught.value.details["errors"]] == ["#/colour"]
    assert logged(sqlite_files.engine) == (0, 0)


def test_when_the_log_fails_what_is_logged_is_in_the_part(  # noqa: PLR0917
    files, requests, write, logged, refuse_commits, tmp_path
):
    refuse_commits(files.engine, after=1_000)

    with pytest.raises(LogUnavailable, match="not known") as caught:
        files.predict(write("in.csv", requests), tmp_path / "out.parquet", skip=False)

    assert "1,000 rows are logged already, with their predictions in out.parquet.part" in caught.value.message
    assert logged(files.engine) == (1_000, 1_000)
    assert len(pd.read_parquet(tmp_path / "out.parquet.part")) == 1_000
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_that_is_there_is_replaced_only_with_force(zap_command, trained_sqlite, requests, write, tmp_path):
    source, out = write("in.csv", requests[:3]), tmp_path / "out.csv"
    out.write_text("mine")

    refused = zap_command("predict", source, "--out", out, settings=trained_sqlite)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert out.read_text() == "mine"
    assert zap_command("predict", source, "--out", out, "--force", settings=trained_sqlite).returncode == 0
    assert len(read(out)[0]) == 3


def test_wrong_usage_is_told(trained_sqlite, tmp_path):
    (tmp_path / "in.txt").write_text("")
    (tmp_path / "in.csv").write_text("user_type\n")
    for arguments, told in (
        (("in.txt", "--out", "out.csv"), "in.txt does not end in .csv"),
        (("in.csv", "--out", "out.xlsx"), "out.xlsx does not end in .csv"),
        (("--out", "out.csv"), "--out needs a FILE"),
        (("nothing.csv", "--out", "out.csv"), "does not exist"),
        (("in.csv", "--force"), "need --out"),
    ):
        done = CliRunner().invoke(main, ["predict", *arguments], env=trained_sqlite.environment())
        assert done.exit_code == 2
        assert told in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.parquet", b"PAR1 no"), ("in.csv", b""), ("in.csv", b"user_type\n\xff\n"), ("in.csv", b"\xff")],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(sqlite_files, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises((UnusableFile, MalformedCsv)) as caught:
        sqlite_files.predict(tmp_path / name, tmp_path / "out.csv", skip=True)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(("name", "content"), [("in.csv", "user_type\n"), ("in.ndjson", "")])
def test_a_file_without_rows_gives_one_without_rows(sqlite_files, tmp_path, name, content):
    (tmp_path / name).write_text(content)

    for kind in ("csv", "ndjson", "parquet"):
        report = sqlite_files.predict(tmp_path / name, tmp_path / f"out.{kind}", skip=False)
        assert (report.answered, report.skipped) == (0, 0)
        assert (tmp_path / f"out.{kind}").exists()


def test_reading_holds_a_group_at_a_time(tmp_path):
    # The lines of a file are read as their rows are needed.
    (tmp_path / "in.ndjson").write_text("{}\n" * 200_000)

    with read_file(tmp_path / "in.ndjson") as source:
        assert next(source.records).line == 1
        assert source.position() <= 65_536 < source.size


def test_the_refused_numbers_of_a_row_do_not_end_a_parquet_file(sqlite_files, requests, write, tmp_path):
    source = write("in.ndjson", [requests[0], *(requests[0] | {"distance_driven_km": 10**n} for n in (19, 400))])

    report = sqlite_files.predict(source, tmp_path / "out.parquet", skip=True)

    assert (report.answered, report.skipped) == (1, 2)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["distance_driven_km"].fillna(-1).tolist() == [0, 1e19, -1]


def test_a_title_line_or_other_headers_are_explained(zap_command, trained_sqlite, tmp_path):
    (tmp_path / "report.csv").write_text("Charging report depot North,,\nuser_id,soc\nu1,30\n")

    done = zap_command("predict", tmp_path / "report.csv", "--out", tmp_path / "out.csv", settings=trained_sqlite)

    assert done.returncode == 2
    assert "#/Charging report depot North is not a field" in done.stderr
    assert "Unlike zap import-history, zap predict accepts no title lines" in done.stderr
    assert "remove the lines above the names, and rename the columns" in done.stderr


def test_an_error_in_a_row_says_nothing_about_columns(zap_command, trained_sqlite, tmp_path):
    (tmp_path / "rows.csv").write_text("user_id,temperature_c\nu1,99\n")

    done = zap_command("predict", tmp_path / "rows.csv", "--out", tmp_path / "out.csv", settings=trained_sqlite)

    assert "line 2 #/temperature_c is 99; must be -60 to 60 °C" in done.stderr
    assert "title" not in done.stderr


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("source", ["csv", "ndjson", "parquet"])
def test_rows_that_ask_for_an_explanation_get_their_reasons(  # noqa: PLR0917
    sqlite_files, requests, write, tmp_path, source, kind
):
    asked = [request | {"explain": n == 1, "user_id": DRIVER} for n, request in enumerate(requests[1:4])]
    plain = tmp_path / f"plain.{kind}"
    sqlite_files.predict(write(f"plain.{source}", [{**one, "explain": False} for one in asked]), plain, skip=False)

    out = tmp_path / f"out.{kind}"
    sqlite_files.predict(write(f"asked.{source}", asked), out, skip=False)

    (found, answers), (_, same) = read(out), read(plain)
    assert answers == same
    if kind == "ndjson":
        assert ["explanation" in row for row in found] == [False, True, False]
        assert found[1]["explanation"]["predicted_class"] == found[1]["predicted_class"]
    else:
        assert [bool(row["reasons"]) and isinstance(row["reasons"], str) for row in found] == [False, True, False]
        assert found[1]["reasons"].startswith("For ")


def test_explain_must_be_true_or_false_in_a_file(sqlite_files, good_request, write, out):
    for value, said in (("maybe", "not a string"), (3, "not a string")):
        with pytest.raises(InvalidRequest) as caught:
            sqlite_files.predict(write("wrong.csv", [good_request | {"explain": value}]), out("csv"), skip=False)
        (error,) = caught.value.details["errors"]
        assert (error["pointer"], error["detail"]) == ("#/explain", f"must be true or false, {said}")


def test_an_empty_wish_is_none(sqlite_files, good_request, write, tmp_path):
    rows = [good_request | {"explain": True}, good_request | {"explain": None}]
    for kind in ("csv", "parquet"):
        out = tmp_path / f"out-{kind}.ndjson"
        sqlite_files.predict(write(f"wishes.{kind}", rows), out, skip=False)
        assert ["explanation" in row for row in read(out)[0]] == [True, False]
