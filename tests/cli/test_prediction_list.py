"""zap predictions list and export."""

import csv
import gzip
import json
import tracemalloc

import pandas as pd
import pytest
from listed import add_answers
from pyarrow import parquet
from sqlalchemy import event

from zap.db.engine import create_engine
from zap.db.log.prediction_list import COLUMNS, Wanted
from zap.errors import UnusableFile
from zap.flows.prediction_export import export_predictions
from zap.settings import Settings


@pytest.fixture
def settings(database_url, tmp_path):
    """Return settings of a database with 120 answers to requests."""
    engine = create_engine(database_url)
    add_answers(engine, range(120))
    engine.dispose()
    return Settings(database_url=database_url, models_dir=tmp_path / "models")


def test_a_list_without_answers_says_so(zap_command, settings):
    done = zap_command("predictions", "list", "--user-id", "nobody", settings=settings)

    assert (done.returncode, done.stdout) == (0, "no answers\n")


def test_list(zap_command, settings):
    shown = zap_command("predictions", "list", "--limit", 3, settings=settings)
    assert shown.returncode == 0, shown.stderr
    assert "2026-03-02 13:59" in shown.stdout
    assert "driver 1" in shown.stdout
    assert "backtest" in shown.stdout

    filters = ("--from", "2026-03-02T12:20", "--user-id", "driver 0", "--outcome", "matched", "--json")
    listed = json.loads(zap_command("predictions", "list", *filters, settings=settings).stdout)
    assert [one["prediction_id"] for one in listed["predictions"]] == [
        number + 1 for number in reversed(range(20, 120)) if number % 12 == 0
    ]
    assert listed["next_before"] is None
    page = json.loads(
        zap_command("predictions", "list", "--limit", 2, "--before", 50, "--json", settings=settings).stdout
    )
    assert [one["prediction_id"] for one in page["predictions"]] == [49, 48]
    assert page["next_before"] == 48


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz", "all.ndjson", "all.jsonl.gz", "all.parquet"])
def test_an_export_is_read_back(settings, tmp_path, name):
    engine = create_engine(settings.database_url)
    out = tmp_path / name

    assert export_predictions(engine, Wanted(), out) == 120
    wanted = export_predictions(engine, Wanted(actual_class="DC Fast Charger"), tmp_path / "some.parquet")
    engine.dispose()

    if name.endswith("parquet"):
        table = parquet.read_table(out)
        assert [str(kind) for kind in table.schema.types[:3]] == ["int64", "int64", "string"]
        frame = table.to_pandas()
    elif "csv" in name:
        frame = pd.read_csv(out)
    else:
        frame = pd.read_json(out, lines=True)
    assert list(frame) == list(COLUMNS)
    assert frame["prediction_id"].tolist() == list(range(120, 0, -1))
    assert frame["probability"].tolist() == [0.75] * 120
    assert frame["user_id"].isna().sum() == 30
    assert pd.to_datetime(frame["request_timestamp"]).iloc[-1] == pd.Timestamp("2026-03-02T12:00:00Z")
    first = frame.iloc[-2]
    assert (first["outcome"], first["actual_class"], first["lag_seconds"]) == ("superseded", "DC Fast Charger", -60)
    assert wanted == len(parquet.read_table(tmp_path / "some.parquet")) == 60
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def test_export_on_the_command_line(zap_command, settings, tmp_path):
    out = tmp_path / "answers.csv"

    done = zap_command("predictions", "export", out, "--version", 2, "--kind", "live", settings=settings)

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: 40 predictions\n"
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model_version"] for row in rows} == {"2"}
    assert rows[0]["asked_at"].startswith("2026-03-02T")
    again = zap_command("predictions", "export", out, settings=settings)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    forced = zap_command("predictions", "export", out, "--force", "--json", settings=settings)
    assert json.loads(forced.stdout) == {"out": str(out), "predictions": 120}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--from", "yesterday"),
        ("list", "--to", "2026-02-30"),
        ("list", "--outcome", "lost"),
        ("list", "--limit", "1001"),
        ("list", "--version", "0"),
        ("export",),
        ("export", "answers.xlsx"),
        ("export", "nowhere/answers.csv"),
    ],
)
def test_a_wrong_argument_is_explained(zap_command, settings, arguments):
    done = zap_command("predictions", *arguments, settings=settings)

    assert done.returncode == 2
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz", "all.ndjson", "all.parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_leaves_no_file(settings, tmp_path, name, error):
    engine = create_engine(settings.database_url)
    (tmp_path / name).write_text("before")
    failed = []

    @event.listens_for(engine, "before_cursor_execute")
    def _fail(connection, cursor, statement, *_):
        if "FROM predictions" in statement:
            failed.extend(tmp_path.glob("*.part"))
            raise error

    try:
        with pytest.raises((error, UnusableFile)):
            export_predictions(engine, Wanted(), tmp_path / name)
    finally:
        engine.dispose()

    assert failed

    assert sorted(path.name for path in tmp_path.glob("all*")) == [name]
    assert (tmp_path / name).read_text() == "before"


def test_the_part_file_of_another_command_is_kept(settings, tmp_path):
    # `zap predict --out` leaves such a file with logged answers.
    engine = create_engine(settings.database_url)
    part = tmp_path / "all.csv.part"
    part.write_text("answers")

    with pytest.raises(UnusableFile, match="--force"):
        export_predictions(engine, Wanted(), tmp_path / "all.csv")
    assert part.read_text() == "answers"

    assert export_predictions(engine, Wanted(), tmp_path / "all.csv", force=True) == 120
    engine.dispose()
    assert not part.exists()


def test_an_empty_export_has_the_columns(database_url, tmp_path):
    engine = create_engine(database_url)
    for name in ("none.csv", "none.parquet", "none.ndjson.gz"):
        assert export_predictions(engine, Wanted(), tmp_path / name) == 0
    engine.dispose()

    assert (tmp_path / "none.csv").read_text() == f"{','.join(COLUMNS)}\n"
    assert parquet.read_table(tmp_path / "none.parquet").column_names == list(COLUMNS)
    with gzip.open(tmp_path / "none.ndjson.gz") as file:
        assert file.read() == b""


def test_the_memory_of_an_export_has_a_bound(sqlite_engine, tmp_path):
    def peak(out):
        tracemalloc.start()
        export_predictions(sqlite_engine, Wanted(), out)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    add_answers(sqlite_engine, range(2_000))
    peak(tmp_path / "first.csv")
    few = peak(tmp_path / "few.csv")
    add_answers(sqlite_engine, range(2_000, 10_000))

    assert peak(tmp_path / "many.csv") < 1.3 * few
