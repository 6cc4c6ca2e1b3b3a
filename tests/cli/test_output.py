"""Standard output that lacks characters, is closed, is full, or has no reader: a sentence, and nothing done in vain."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from forked import COMMANDS
from sqlalchemy import create_engine, text

from zap.errors import OutputFailed

TYPE = "Кабель №1 ⚡"


def zap(settings, *arguments, stdout, **environment):
    return subprocess.run(
        [sys.executable, "-m", "zap", *arguments], env=os.environ | settings.environment() | environment,
        stdout=stdout, stderr=subprocess.PIPE, timeout=120, check=False,
    )  # fmt: skip


def zap_on_full_disk(settings, *arguments):
    """Run a command in a forked process whose standard output cannot be written."""
    environment = os.environ | settings.environment()
    with (
        Path("/dev/full").open("wb") as out,
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile() as err,
    ):
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        code = COMMANDS.start(arguments, environment, streams).wait(120)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, stderr=err.read())


def versions(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT count(*) FROM model_versions"))
        logged = connection.scalar(text("SELECT count(*) FROM predictions WHERE source = 'inference'"))
        rows = connection.scalar(text('SELECT count(*) FROM "ChargingSessions"'))
    engine.dispose()
    return found, logged, rows


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        # The way is the same, and each command needs a new Python.
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.long),
    ],
    ids=["cp1252", "C"],
)
def test_an_encoding_without_a_character_shows_its_number(trained_sqlite, environment):
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        connection.execute(
            text("""UPDATE "ChargingSessions" SET charger_type = :name WHERE charger_type = 'Level 1'"""),
            {"name": TYPE},
        )
        connection.execute(text("UPDATE model_versions SET note = :name"), {"name": TYPE})
    engine.dispose()

    shown = zap(trained_sqlite, "models", "show", "1", stdout=subprocess.PIPE, **environment)
    whole = zap(trained_sqlite, "models", "show", "1", "--json", stdout=subprocess.PIPE, **environment)
    train = zap(trained_sqlite, "train", "--set", "n_estimators=3", stdout=subprocess.PIPE, **environment)

    assert [done.returncode for done in (shown, whole, train)] == [0, 0, 0], train.stderr
    assert json.loads(whole.stdout)["note"] == TYPE
    assert r"\u041a\u0430\u0431\u0435\u043b\u044c" in train.stdout.decode("cp1252")
    # Lines of tables are drawn in ASCII.
    assert r"\u2500" not in train.stdout.decode("cp1252")


WRITING = [
    ("train", "--json", "--set", "n_estimators=3"),
    ("train", "--set", "n_estimators=3"),
    ("tune", "--trials", "1"),
    ("sample-history", "--drivers", "1", "--yes"),
    ("models", "rollback"),
    ("predict", "request.json"),
]


@pytest.mark.parametrize("full", ["full", "closed", "no reader"])
def test_nothing_is_done_if_the_output_cannot_be_written(trained_sqlite, good_request, full):
    Path("request.json").write_text(json.dumps(good_request))
    before = versions(trained_sqlite)
    for command in WRITING if full == "full" else WRITING[:1]:
        if full == "full":
            done = zap_on_full_disk(trained_sqlite, *command)
        elif full == "closed":
            shell = ["sh", "-c", f"exec {sys.executable} -m zap {' '.join(command)} >&-"]
            environment = os.environ | trained_sqlite.environment()
            done = subprocess.run(shell, env=environment, stderr=subprocess.PIPE, timeout=60, check=False)
        else:
            reading, writing = os.pipe()
            os.close(reading)
            done = zap(trained_sqlite, *command, stdout=writing)
            os.close(writing)

        assert done.returncode == (141 if full == "no reader" else OutputFailed.exit_code)
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr
        assert (b"standard output" in done.stderr) == (full != "no reader")
    assert versions(trained_sqlite) == before


def test_a_reader_that_takes_one_line_ends_the_command_quietly(trained_sqlite):
    piped = f"set -o pipefail; {sys.executable} -m zap models show 1 --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | trained_sqlite.environment()
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        # More than a pipe holds.
        connection.execute(text("UPDATE model_versions SET note = :long"), {"long": "x" * 500_000})
    engine.dispose()

    done = subprocess.run(["bash", "-c", piped], env=environment, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (141, b"{", b"")


def test_a_standard_error_that_is_full_ends_no_training(trained_sqlite):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zap", "train", "--json", "--set", "n_estimators=3"],
            env=os.environ | trained_sqlite.environment(), stdout=subprocess.PIPE, stderr=full, timeout=120,
            check=False,
        )  # fmt: skip

    assert done.returncode == 0
    assert json.loads(done.stdout)["model_version"] == 2
