"""Trainings on sessions that are stored late, or whose ends are: what they leave out, and what their reports say."""

from functools import partial

import pytest
from histories import as_history
from sqlalchemy import delete, func, insert, select, text
from sqlmodel import col

import zap
from zap.db.engine import create_engine, write_transaction
from zap.db.history.session_changes import CHANGES, KEPT
from zap.db.tables import ChargingSession, utc_now
from zap.flows import training as training_run
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.population_now import PRESENT_GROUPS
from zap.ml.training import fit, split_by_time
from zap.ml.tuning import Budget

QUICK = {"n_estimators": 10}


def train(settings, **options):
    """Return the report of a training, and its model."""
    engine = create_engine(settings.database_url)
    report = run_training(engine, settings, options=TrainingOptions(**options))
    engine.dispose()
    return report, zap.load_model(settings.database_url)


def change_sessions(settings, *changes):
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        for change in changes:
            connection.execute(text(f'UPDATE "ChargingSessions" SET {change}'.replace(":", "\\:")))
    engine.dispose()


def after_start(hours):
    return f"strftime('%Y-%m-%d %H:%M:%S', charging_start_time, '+{hours} hours') || '.000000'"


def test_a_training_learns_from_what_was_stored(trained_sqlite):
    change_sessions(trained_sqlite, f"timestamp = {after_start(6)}")

    report, model = train(trained_sqlite, hyper_parameters=QUICK, windows=True)

    assert (model.asked_before, model.delay, report["hyper_parameters"]["delay"]) == (15, 360, 360)
    found = report["reporting"]
    assert (found["delay_minutes"], found["lag_minutes"], found["left_out"]) == (360, 375, {})
    assert found["measured_sessions"] > 500
    assert found["without_end_lately"] == 0
    words = "5 % of the newest sessions were stored 6 hours or more after their start"
    assert found["delay_in_words"] == words
    assert f"The columns of the present end 6.2 hours before each session, because {words}." in report["message"]
    assert report["at_plug_in"].keys() == {"weighted_f1", "macro_f1", "log_loss"}
    # The same training on pasts and presents with this delay.
    history = as_history(zap.read_history(trained_sqlite.database_url))
    late, in_time = split_by_time(history, delay=360), split_by_time(history)
    again = fit(late, {**QUICK, "asked_before": 15}, n_jobs=2)
    assert again.scorer_.digest() == model.scorer_.digest()
    assert fit(in_time, {**QUICK, "asked_before": 15}, n_jobs=2).scorer_.digest() != model.scorer_.digest()


def test_a_training_on_sessions_that_are_stored_in_time_has_no_delay(trained_sqlite):
    change_sessions(trained_sqlite, f"timestamp = {after_start(0)}")

    at_start = trained_sqlite.model_copy(update={"asked_before_minutes": 0})

    report, model = train(at_start, hyper_parameters=QUICK, windows=True)

    assert (model.asked_before, model.delay) == (0, 0)
    assert report["at_plug_in"] is None
    assert report["reporting"]["lag_minutes"] == 0


def test_a_training_leaves_out_open_sessions_if_ends_come_at_night(trained_sqlite):
    """The ends of the last day are missing, because they would be stored in the night that follows."""
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        newest = connection.scalar(select(func.max(col(ChargingSession.charging_start_time))))
    engine.dispose()
    gone = "charging_end_time = NULL, charging_duration_hours = NULL"
    change_sessions(
        trained_sqlite,
        f"charging_end_time = {after_start(1)}, charging_duration_hours = 1",
        f"{gone} WHERE charging_start_time > datetime('{newest}', '-26 hours')",
    )

    report, model = train(trained_sqlite, hyper_parameters=QUICK)

    found = report["reporting"]
    assert found["without_end"] < 0.1
    assert found["without_end_lately"] == 1
    assert set(found["left_out"]) == {"open_sessions"} == set(model.left_out)
    said = "100% of the last day's sessions have no end yet, so ends are stored late"
    assert f"These columns are left out: open_sessions, because {said}." in report["message"]
    used = model.feature_importances("split")
    assert used[[name for name in used.index if name.startswith("open")]].sum() == 0
    assert used[[name for name in used.index if name.startswith("mix_")]].sum() > 0


@pytest.mark.parametrize("asked", [{}, {"left_out": ["hour_of_week"]}])
def test_a_tuning_does_not_keep_what_reports_exclude(trained_sqlite, monkeypatch, asked):
    """The next training measures its own reports, and uses the present again."""
    monkeypatch.setattr(training_run, "Budget", partial(Budget, trials=2))
    change_sessions(trained_sqlite, f"timestamp = {after_start(24 * 8)}")
    report, model = train(trained_sqlite, tune=True, hyper_parameters={**QUICK, **asked})
    assert set(model.left_out) == set(PRESENT_GROUPS)
    assert set(report["reporting"]["left_out"]) == set(PRESENT_GROUPS)
    change_sessions(trained_sqlite, "timestamp = NULL")

    report, model = train(trained_sqlite)

    assert report["hyper_parameters_from"] == "tuning 1"
    assert list(model.left_out) == asked.get("left_out", [])
    assert report["reporting"]["left_out"] == {}


def test_a_training_prunes_the_log_of_changes(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    old = utc_now() - 2 * KEPT
    with write_transaction(engine) as connection:
        connection.execute(delete(CHANGES))
        connection.execute(insert(CHANGES), [{"changed_at": old, "session_id": number} for number in range(50)])

    train(trained_sqlite, hyper_parameters=QUICK)

    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(CHANGES)) == 1
    engine.dispose()
