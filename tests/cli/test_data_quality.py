"""zap data-quality."""

import json
from datetime import date, timedelta

import pytest

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.data_quality_days import REFUSED, REFUSED_REPORTS, REQUESTS, SESSIONS, apply, day_of
from zap.db.tables import utc_now
from zap.settings import Settings

TODAY = day_of(utc_now())


@pytest.fixture
def settings(database_url, tmp_path):
    engine = create_engine(database_url)
    with write_transaction(engine) as connection:
        days = {
            TODAY: {
                ("", "answered"): 200,
                ("", "completed"): 20,
                ("user_id", "missing"): 40,
                ("user_id", "null"): 10,
                ("user_id", "unknown"): 30,
                ("temperature_c", "null"): 2,
            },
            TODAY - timedelta(days=40): {("", "answered"): 7},
        }
        apply(connection, REQUESTS, days)
        apply(connection, REFUSED, {TODAY: {("", "refused"): 50, ("temperature_c", "out_of_range"): 50}})
        apply(
            connection, SESSIONS, {TODAY: {("", "added"): 9, ("", "ended"): 8, ("energy_consumed_kwh", "missing"): 2}}
        )
        apply(connection, REFUSED_REPORTS, {TODAY: {("", "refused"): 3, ("", "not_json"): 3}})
    engine.dispose()
    return Settings(database_url=database_url, models_dir=tmp_path / "models")


def test_it_works(zap_command, settings):
    shown = zap_command("data-quality", settings=settings)

    assert shown.returncode == 0, shown.stderr
    said = " ".join(shown.stdout.split())
    assert "200 answered requests, 50 refused (20.0 %)" in said
    assert "50 (25.0 %) named no driver, 30 named a driver without a known session, and 20 (10.0 %)" in said
    assert "energy_consumed_kwh 2 (25.0 %)" in said
    assert "temperature_c out_of_range 50 (100.0 %)" in said
    assert "(the whole body) not_json 3 (100.0 %)" in said
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_json_has_each_day(zap_command, settings):
    first = TODAY - timedelta(days=100)
    report = json.loads(zap_command("data-quality", "--from", first, "--json", settings=settings).stdout)

    assert (report["from"], report["to"]) == (str(first), str(TODAY))
    assert [(one["day"], one["requests"]["answered"]) for one in report["days"]] == [
        (str(TODAY), 200),
        (str(TODAY - timedelta(days=40)), 7),
    ]
    assert report["all_days"]["requests"]["answered"] == 207
    requests = report["days"][0]["requests"]
    assert requests["unknown_drivers_share"] == 30 / 150
    assert {"field": "user_id", "found": "missing", "count": 40, "share": 0.2} in requests["fields"]
    old = report["days"][1]["requests"]
    assert (old["refused_share"], old["without_driver_share"], old["fields"], old["refusals"]) == (0, 0, [], [])


def test_nothing_is_a_report_too(zap_command, settings):
    day = date(2020, 1, 1)
    shown = zap_command("data-quality", "--to", day, settings=settings)
    report = json.loads(zap_command("data-quality", "--to", day, "--json", settings=settings).stdout)

    assert (shown.returncode, report["days"]) == (0, [])
    assert report["from"] == "2019-12-03"
    assert report["all_days"]["requests"]["refused_share"] is None


@pytest.mark.parametrize(
    "arguments",
    [("--from", "x"), ("--to", "2026-02-30"), ("--from", "2026-01-02", "--to", "2026-01-01"), ("--from", "2001-01-01")],
)
def test_a_wrong_day_is_explained(zap_command, settings, arguments):
    done = zap_command("data-quality", *arguments, settings=settings)

    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0].removeprefix("--") in done.stderr
