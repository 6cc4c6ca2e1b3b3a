"""zap serving."""

import json
from datetime import timedelta

import pytest

from zap.db.engine import create_engine
from zap.db.monitoring.serving_counts import CountedMinute, clock_of, span_begin, write_minutes
from zap.monitoring.answer_counts import LOG, OTHER, PREDICT, Counts
from zap.settings import Settings


@pytest.fixture
def settings(database_url, tmp_path):
    engine = create_engine(database_url)
    begin = span_begin(clock_of(engine) - timedelta(minutes=10), 1)
    counts = {
        PREDICT: Counts(12, 3, 10**9, {13: 990, 39: 10}),
        OTHER: Counts(1, 0, 10**6, {5: 4}),
        LOG: Counts(0, 0, 10**9, {10: 1_000}),
    }
    write_minutes(engine, "a", [CountedMinute(1, begin, counts)])
    engine.dispose()
    return Settings(database_url=database_url, models_dir=tmp_path / "models")


def test_it_works(zap_command, settings):
    shown = zap_command("serving", settings=settings)

    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    rows = [line for line in lines if line[:2] == ["POST", "/predict"]]
    assert [(row[2], *row[4:]) for row in rows] == [("1,000", "12", "3", "1", "1")] * 3
    assert [line for line in lines if line[:1] == ["hour"]] == [["hour", "1,000", "0.6", "0.6"]]
    assert "too high by at most 21 %" in shown.stdout
    assert "POST /predict/batch" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_json_has_the_points(zap_command, settings):
    figures = json.loads(zap_command("serving", "--json", settings=settings).stdout)

    hour, day, week = figures["spans"]
    assert [span["point_minutes"] for span in (hour, day, week)] == [1, 10, 60]
    assert 9 <= len(hour["points"]) <= 11
    assert hour["points"][0]["answered_per_minute"] == 1_004
    assert {span["routes"][0]["p99_ms"] for span in (hour, day, week)} == {1.0}
    assert week["answered"] == 1_004


def test_nothing_is_a_report_too(zap_command, database_url, tmp_path):
    settings = Settings(database_url=database_url, models_dir=tmp_path / "models")

    assert zap_command("serving", settings=settings).stdout.startswith("No server has answered")
    assert json.loads(zap_command("serving", "--json", settings=settings).stdout)["spans"][0]["points"] == []
