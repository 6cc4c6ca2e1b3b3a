"""zap predict --out: a .part file that holds logged answers of an earlier run is overwritten only with --force."""

import gzip
import json
import signal
from contextlib import contextmanager

import pandas as pd
import pytest

from zap.cli import main
from zap.errors import LogUnavailable, UnusableFile
from zap.formats.answer_files import answers_in

KINDS = ["csv", "csv.gz", "ndjson", "ndjson.gz", "parquet"]


@pytest.fixture
def source(good_request, tmp_path):
    """A file of 1,203 requests."""
    path = tmp_path / "in.csv"
    pd.DataFrame([good_request | {"distance_driven_km": float(n)} for n in range(1_203)]).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_logged_answers_stay_until_a_person_decides(sqlite_files, source, refuse_commits, tmp_path, kind):
    out, part = tmp_path / f"out.{kind}", tmp_path / f"out.{kind}.part"
    refuse_commits(sqlite_files.engine, after=1_000)
    with pytest.raises(LogUnavailable):
        sqlite_files.predict(source, out, skip=False)
    before = part.read_bytes()

    with pytest.raises(UnusableFile) as told:
        sqlite_files.predict(source, out, skip=False)

    assert told.value.message == (
        f"out.{kind}.part holds 1,000 logged answers of an earlier run that did not reach its end; rename the file to"
        " keep it, or replace it with --force"
    )
    assert part.read_bytes() == before
    # With --force the file is replaced, and removed, because this run logs nothing.
    with pytest.raises(LogUnavailable):
        sqlite_files.predict(source, out, skip=False, force=True)
    assert not part.exists()


def test_the_command_tells_it_and_force_goes_on(zap_command, trained_sqlite, source, tmp_path):
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    part.write_text("user_type,predicted_class\nCommuter,Level 2\n")

    refused = zap_command("predict", source, "--out", out, "--json", settings=trained_sqlite)

    assert refused.returncode == 2
    assert "out.csv.part holds 1 logged answer of an earlier run" in refused.stderr
    assert "--force" in json.loads(refused.stdout)["detail"]
    assert part.read_text().endswith("Level 2\n")
    assert zap_command("predict", source, "--out", out, "--force", settings=trained_sqlite).returncode == 0
    assert not part.exists()
    assert len(pd.read_csv(out)) == 1_203


@pytest.mark.parametrize(
    ("phase", "rows", "told"),
    [
        ("predicting", 1_000, "; 1,000 rows are logged already, with their predictions in out.csv.part"),
        ("predicting", 0, ""),
        ("checking", 0, ""),
    ],
)
def test_ctrl_c_names_the_part_and_what_it_has(  # noqa: PLR0917
    trained_sqlite, source, tmp_path, monkeypatch, capsys, phase, rows, told
):
    @contextmanager
    def interrupted():
        yield lambda what, done, *_: (what, done) == (phase, rows) and signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("zap.cli.predicting.shown_progress", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(source), "--out", "out.csv", "--database-url", trained_sqlite.database_url])

    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"Error: the command was interrupted{told}"
    part = tmp_path / "out.csv.part"
    assert (answers_in(part, "csv") if part.exists() else 0) == rows


def test_ctrl_c_in_a_commit_says_that_rows_may_be_logged(sqlite_files, source, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_files._log, "write_all", lambda _: signal.raise_signal(signal.SIGINT))

    with pytest.raises(KeyboardInterrupt) as interrupt:
        sqlite_files.predict(source, tmp_path / "out.csv", skip=False)

    assert interrupt.value.__notes__ == ["the next 1,000 rows may be logged too"]


ZIPPED = gzip.compress(b"a,predicted_class\n" + b"1,Level 2\n" * 10_000, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "answers"),
    [
        ("a.csv.part", b"", 0),
        ("a.csv.part", b"a,predicted_class,errors\n", 0),
        ("a.csv.part", b"a,predicted_class,errors\n1,,bad\n", 0),
        ("a.csv.part", b"a,predicted_class,errors\n1,,bad\n2,Level 2,\n3", 1),
        ("a.csv.part", b"my own notes\n", None),
        ("a.csv.part", b"\xff\xfe\n", None),
        ("a.csv.gz.part", ZIPPED, 10_000),
        ("a.csv.gz.part", b"no", None),
        ("a.ndjson.part", b'{"predicted_class": "x"}\n{"line": 2, "errors": []}\n{"predicted_cl', 1),
        ("a.ndjson.part", b'{"mine": 1}\n', None),
        ("a.ndjson.part", b"my own notes\n", None),
        # A process that was killed leaves a Parquet file that nobody can read.
        ("a.parquet.part", b"PAR1", None),
    ],
)
def test_the_answers_of_a_part_are_counted(  # noqa: PLR0917
    sqlite_files, source, tmp_path, name, content, answers
):
    part = tmp_path / name
    part.write_bytes(content)
    kind = name.split(".")[1]

    assert answers_in(part, kind) == answers
    out = tmp_path / name.removesuffix(".part")
    if answers == 0:
        assert sqlite_files.predict(source, out, skip=False).answered == 1_203
        return
    with pytest.raises(UnusableFile, match="--force"):
        sqlite_files.predict(source, out, skip=False)
    assert part.read_bytes() == content


def test_the_end_of_a_zipped_part_may_be_missing(tmp_path):
    part = tmp_path / "a.csv.gz.part"
    part.write_bytes(ZIPPED[:-12])

    assert 0 < answers_in(part, "csv") <= 10_000
