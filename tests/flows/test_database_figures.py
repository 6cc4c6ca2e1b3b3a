"""The metrics that are in the database: live scores beside guessing, trainings, trials, outcomes, and the follower."""

from datetime import datetime, timedelta

from outcomes import applied, asked_about, last_sessions
from sqlalchemy import text

from zap.db.versions.model_registry import read_version
from zap.flows.database_figures import database_figures, quality_figures
from zap.settings import Settings

LONG_AFTER = datetime.fromisoformat("2027-01-01T12:00:00")


def values(samples):
    return {(name, *one.labels.values()): one.value for name, some in samples.items() for one in some}


def test_live_scores_are_those_of_the_report(client, trained, monkeypatch):
    engine = client.app.state.engine
    assert not [name for name, *_ in values(quality_figures(engine, trained)) if name != "zap_model"]
    version = read_version(engine, 1)
    changes = asked_about(client, last_sessions(trained, version["test_samples"]))
    applied(engine, changes, portion=50)
    last = max(change.after.asked_at for change in changes)
    monkeypatch.setattr(Settings, "wall_now", lambda _self: last + timedelta(days=3))

    found = values(quality_figures(engine, trained))

    evaluation = version["evaluation"]
    assert found["zap_model", "1", evaluation["judged"]["verdict"]] == 1
    # All test sessions are within the 90 days of the report.
    assert found["zap_model_sessions", "1", "final"] == version["test_samples"]
    assert abs(found["zap_model_quality", "1", "final", "weighted_f1", "model"] - evaluation["test_f1_score"]) < 1e-9
    assert abs(found["zap_model_quality", "1", "final", "accuracy", "model"] - evaluation["accuracy"]) < 1e-9
    guessing = max(one["weighted_f1"] for one in evaluation["baselines"].values())
    assert abs(found["zap_model_quality", "1", "final", "weighted_f1", "guessing"] - guessing) < 1e-9
    assert found["zap_model_label_coverage_ratio", "1", "final"] == 1
    of_database = values(database_figures(engine, trained))
    assert of_database["zap_outcomes", "matched"] > 0
    # Nobody follows in this test, so nothing is behind a place.
    assert ("zap_follower_lag_rows",) not in of_database


def test_a_damaged_row_costs_its_own_figure_only(sqlite_client, trained_sqlite):
    engine = sqlite_client.app.state.engine
    with engine.begin() as connection:
        day = "('1', '2026-11-01 00:00:00.000000', 'live', '[1, \"x\"]', NULL)"
        connection.execute(text(f"INSERT INTO quality_days (model_version, day, kind, answers, sums) VALUES {day}"))

    found = values(database_figures(engine, trained_sqlite) | quality_figures(engine, trained_sqlite))

    assert found["zap_training_runs", "finished"] == 1
    assert found["zap_outcomes", "matched"] == 0


def test_without_a_model_the_database_is_read_too(untrained_client):
    state = untrained_client.app.state

    found = values(database_figures(state.engine, state.settings) | quality_figures(state.engine, state.settings))

    assert found["zap_training_runs", "finished"] == found["zap_trials", "running"] == 0
    assert not [key for key in found if key[0] == "zap_model"]
