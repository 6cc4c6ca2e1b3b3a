"""A version that older code trained serves, is promoted and rolled back with code that has learned new features."""

import json
import os
import shutil
from pathlib import Path

import pytest
from forked import Commands

import zap

PACKAGE = Path(zap.__file__).parent

# Each change: a file, a line of it, and what is added in front of that.
# A column of a driver's past, in front of others.
ON_THE_HOUR = (
    (
        "ml/driver_columns.py",
        "# The order of the columns in a row.\n",
        '''class OnTheHour(DriverColumns):
    """Whether the last session started on the hour."""

    of_driver = ("starts_on_the_hour",)

    def __init__(self, n_types: int) -> None:
        self.on_the_hour = _MISSING

    def observe(self, session: PastSession) -> None:
        self.on_the_hour = float(session.start % _HOUR == 0)

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return [self.on_the_hour]


''',
    ),
    ("ml/driver_columns.py", "    Energies,\n", "    OnTheHour,\n"),
    ("ml/column_groups.py", '"hours_since_last", "hours_since_second_last"', '"starts_on_the_hour", '),
)
# A column of the time, in front of the others of the matrix.
NIGHT = (
    ("ml/features.py", '    "hour",\n', '    "night",\n'),
    ("ml/column_groups.py", '"hour", "weekday"', '"night", '),
    ("ml/features.py", "seconds % _DAY / _HOUR, ", "seconds % _DAY < 21600, "),
)
# A field that requests may carry from now on.
TYRES = (
    (
        "ml/features.py",
        '    Feature(\n        "vehicle_age_years"',
        '    Feature("tyre_pressure_bar", "number", "pressure of the tyres", 2.5, "bar", 0, 10),\n',
    ),
)


@pytest.fixture
def newer(tmp_path, trained_sqlite):
    """Yield a function that runs a command of a newer zap, whose code differs from this one's in some places."""

    folder = tmp_path / "newer"
    commands = Commands(folder)

    def run(changes, *arguments, text=None):
        if not folder.exists():
            shutil.copytree(PACKAGE, folder / "zap", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copytree(PACKAGE.parent / "migrations", folder / "migrations")
            for name, place, added in changes:
                file = folder / "zap" / name
                source = file.read_text()
                assert source.count(place) == 1
                file.write_text(source.replace(place, added + place))
        done = commands.run(arguments, os.environ | trained_sqlite.environment(), text)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    yield run
    commands.close()


def predict(run, request):
    reply = run("predict", text=json.dumps(request))
    return reply["model_version"], reply["probabilities"]


def test_a_version_of_older_code_serves_and_comes_back(newer, zap_command, trained_sqlite, good_request):
    def older(*arguments, text=None):
        return json.loads(zap_command(*arguments, settings=trained_sqlite, text=text).stdout)

    def run(*arguments, text=None):
        return newer(ON_THE_HOUR + NIGHT, *arguments, text=text)

    requests = [
        good_request,
        good_request | {"user_id": "sample-1-00001", "charging_start_time": "2024-04-01T03:00:00"},
    ]
    before = [predict(older, request) for request in requests]

    assert [predict(run, request) for request in requests] == before
    report = run("train", "--json", "--set", "n_estimators=10")
    assert report["model_version"] == 2
    learned = [predict(run, request) for request in requests]
    assert [number for number, _ in learned] == [2, 2]
    assert learned != before
    run("models", "promote", "1")
    assert [predict(run, request) for request in requests] == before
    run("models", "rollback")
    assert [predict(run, request) for request in requests] == learned


def test_a_new_field_is_ignored_by_a_version_of_older_code(newer, zap_command, trained_sqlite, good_request):
    before = json.loads(zap_command("predict", settings=trained_sqlite, text=json.dumps(good_request)).stdout)

    for request in (good_request, good_request | {"tyre_pressure_bar": 2.4}):
        reply = newer(TYRES, "predict", text=json.dumps(request))
        assert reply["probabilities"] == before["probabilities"]


def test_a_version_of_newer_code_is_refused_by_older_code_with_what_is_gone(newer, zap_command, trained_sqlite):
    newer(ON_THE_HOUR, "train", "--json", "--set", "n_estimators=10")

    done = zap_command("predict", settings=trained_sqlite, text="{}")

    assert done.returncode == 12
    assert "starts_on_the_hour" in done.stderr
