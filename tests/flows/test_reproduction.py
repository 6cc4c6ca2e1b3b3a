"""The reproduction of a model version: the same rows give the same trees, or it is said what changed."""

from datetime import datetime

import pytest
from histories import add_sessions, session_row
from sqlalchemy import func, inspect, select, table, text, update
from sqlmodel import col

from zap.db.engine import create_engine, write_transaction
from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import read_version
from zap.errors import NotFound
from zap.flows.reproduction import reproduce
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.progress import no_progress

QUICK = {"n_estimators": 10}
wall_time = datetime.fromisoformat


@pytest.fixture
def engine(trained_sqlite):
    """A database with version 1, of the sessions from January to April 2024; the last of April it was tested on."""
    engine = create_engine(trained_sqlite.database_url)
    yield engine
    engine.dispose()


def train(engine, settings, **options):
    options = TrainingOptions(**{"hyper_parameters": QUICK, "promote": "never"} | options)
    return run_training(engine, settings, no_progress, options)["model_version"]


def run(engine, *statements):
    with write_transaction(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


def add_session(engine, start, charger_type="Level 1"):
    """Add a session of a driver of the sample."""
    add_sessions(engine, session_row("sample-1-00000", charger_type, start))


def add_driver(engine, user_type, start):
    run(
        engine,
        f"""INSERT INTO "Users" VALUES ('{user_type} 1', '{user_type}')""",
    )
    add_sessions(engine, session_row(f"{user_type} 1", "Level 2", start))


def session_after(start):
    return f"""(SELECT session_id FROM "ChargingSessions" WHERE charging_start_time > '{start}'
                ORDER BY charging_start_time LIMIT 1)"""


def sizes(engine):
    with engine.connect() as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(table(name)))
            for name in inspect(engine).get_table_names()
        }


def sessions_by_month(engine, number):
    return {month: sessions for month, (sessions, _) in read_version(engine, number)["rows_by_month"].items()}


# The same.


def test_it_works(trained):
    engine = create_engine(trained.database_url)
    before, file, told = sizes(engine), trained.model_file.stat(), []

    found = reproduce(engine, 1, lambda what, *_: told.append(what))

    assert found["reproduced"] is True
    assert found["trees_sha256"]["now"] == found["trees_sha256"]["then"] == read_version(engine, 1)["trees_sha256"]
    assert found["rows_sha256"]["now"] == found["rows_sha256"]["then"]
    assert found["changed_months"] == found["code_version"] == found["libraries"] == {}
    assert list(dict.fromkeys(told)) == ["read", "features", "fit"]
    # It stores nothing.
    assert sizes(engine) == before
    assert trained.model_file.stat() == file
    engine.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {"history_from": wall_time("2024-02-10 12:00")},
        {"history_to": wall_time("2024-03-20")},
        {"test_share": 0.3},
        {"hyper_parameters": {**QUICK, "num_leaves": 7, "subsample": 0.5, "colsample_bytree": 0.5, "random_state": 7}},
        {"history_from": wall_time("2024-01-20"), "history_to": wall_time("2024-04-10"), "test_share": 0.2},
    ],
    ids=" ".join,
)
def test_a_version_of_other_options_is_reproduced_too(engine, trained_sqlite, options):
    number = train(engine, trained_sqlite, **options)

    found = reproduce(engine, number, no_progress)

    assert found["changed_months"] == {}
    assert found["reproduced"] is True
    assert found["trees_sha256"]["now"] != read_version(engine, 1)["trees_sha256"]


def test_sessions_that_came_after_the_training_do_not_matter(engine, trained_sqlite):
    number = train(engine, trained_sqlite)
    add_session(engine, "2024-09-01 10:00:00")
    # Nor do those that it was only tested on.
    run(engine, f'DELETE FROM "ChargingSessions" WHERE session_id = {session_after("2024-04-28")}')

    assert reproduce(engine, number, no_progress)["reproduced"] is True


def test_what_no_training_reads_does_not_matter(engine, trained_sqlite):
    number = train(engine, trained_sqlite)
    run(engine, """UPDATE "ChargingSessions" SET charging_station_id = 'another', charging_cost_usd = 1""")

    assert reproduce(engine, number, no_progress)["reproduced"] is True


def test_kinds_of_drivers_that_came_later_do_not_matter(engine, trained_sqlite):
    add_driver(engine, "Airport Taxi", "2024-04-30 10:00:00")
    # So many rounds that some tell kinds of drivers apart.
    number = train(engine, trained_sqlite, hyper_parameters={"n_estimators": 40})
    add_driver(engine, "Bus", "2024-09-01 10:00:00")

    assert reproduce(engine, number, no_progress)["reproduced"] is True


def test_of_sessions_that_started_together_some_may_have_been_tested_on(engine, trained_sqlite):
    last = read_version(engine, 1)["trained_until"]
    run(
        engine,
        f"""UPDATE "ChargingSessions" SET charging_start_time = '{last}' WHERE session_id = {session_after(last)}""",
    )
    number = train(engine, trained_sqlite)
    assert read_version(engine, number)["trained_until"] == last

    assert reproduce(engine, number, no_progress)["reproduced"] is True


# What changed.


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ("added", 1),
        ("removed", -1),
        ("corrected", 0),
    ],
)
def test_a_session_that_changed_is_told_by_its_month(engine, change, more):
    some = session_after("2024-02-14")
    if change == "added":
        add_session(engine, "2024-02-14 10:00:00")
    elif change == "removed":
        run(engine, f'DELETE FROM "ChargingSessions" WHERE session_id = {some}')
    else:
        run(engine, f'UPDATE "ChargingSessions" SET temperature_c = 21.5 WHERE session_id = {some}')

    found = reproduce(engine, 1, no_progress)

    then = sessions_by_month(engine, 1)["2024-02"]
    assert found["reproduced"] is False
    assert found["changed_months"] == {"2024-02": {"then": then, "now": then + more}}
    assert found["rows_sha256"]["now"] != found["rows_sha256"]["then"]
    # There is nothing to compare.
    assert found["trees_sha256"]["now"] is None


def test_a_session_that_moved_to_another_month_is_told_by_both(engine):
    run(
        engine,
        "UPDATE \"ChargingSessions\" SET charging_start_time = '2024-02-14 10:00:00'"
        f" WHERE session_id = {session_after('2024-03-14')}",
    )

    found = reproduce(engine, 1, no_progress)

    then = sessions_by_month(engine, 1)
    assert found["changed_months"] == {
        "2024-02": {"then": then["2024-02"], "now": then["2024-02"] + 1},
        "2024-03": {"then": then["2024-03"], "now": then["2024-03"] - 1},
    }


def test_a_user_that_was_corrected_is_told_by_the_months_of_his_sessions(engine):
    # As in a database whose sessions keep nothing of their drivers.
    run(engine, "DELETE FROM session_facts")
    assert reproduce(engine, 1, no_progress)["reproduced"] is True
    run(engine, """UPDATE "Users" SET user_type = 'another'""")

    assert list(reproduce(engine, 1, no_progress)["changed_months"]) == list(sessions_by_month(engine, 1))


def test_what_a_user_and_a_vehicle_are_now_does_not_matter_to_sessions_that_keep_what_they_were(engine):
    run(
        engine,
        """UPDATE "Users" SET user_type = 'another'""",
        """UPDATE "Vehicles" SET vehicle_age_years = 20, battery_capacity_kwh = 99, vehicle_model = 'another'""",
    )

    assert reproduce(engine, 1, no_progress)["reproduced"] is True


def test_what_a_session_keeps_that_was_corrected_is_told_by_its_month(engine):
    run(engine, f"UPDATE session_facts SET vehicle_age_years = 33 WHERE session_id = {session_after('2024-02-14')}")

    then = sessions_by_month(engine, 1)["2024-02"]
    assert reproduce(engine, 1, no_progress)["changed_months"] == {"2024-02": {"then": then, "now": then}}


def test_sessions_before_those_that_it_learned_from_are_its_drivers_past_and_matter(engine, trained_sqlite):
    number = train(engine, trained_sqlite, history_from=wall_time("2024-03-01"))
    run(engine, f'DELETE FROM "ChargingSessions" WHERE session_id = {session_after("2024-01-10")}')

    assert list(reproduce(engine, number, no_progress)["changed_months"]) == ["2024-01"]


def test_a_history_that_is_gone_is_told_by_all_its_months(engine):
    run(engine, 'DELETE FROM "ChargingSessions"')

    found = reproduce(engine, 1, no_progress)

    assert found["reproduced"] is False
    assert found["changed_months"] == {
        month: {"then": sessions, "now": 0} for month, sessions in sessions_by_month(engine, 1).items()
    }


def test_other_trees_are_told_with_the_code_and_the_libraries_that_are_others_now(engine, trained_sqlite):
    number = train(engine, trained_sqlite)
    stored = read_version(engine, number)
    older = {**stored["libraries"], "lightgbm": "4.0.0", "xgboost": "1.0"}
    with write_transaction(engine) as connection:
        this = col(ModelVersion.model_version) == number
        values = {"trees_sha256": "0" * 64, "libraries": older, "code_version": "0.0.1+0"}
        connection.execute(update(ModelVersion).where(this).values(values))

    found = reproduce(engine, number, no_progress)

    assert found["reproduced"] is False
    assert found["changed_months"] == {}
    assert found["trees_sha256"] == {"then": "0" * 64, "now": stored["trees_sha256"]}
    assert found["libraries"] == {
        "lightgbm": {"then": "4.0.0", "now": stored["libraries"]["lightgbm"]},
        "xgboost": {"then": "1.0", "now": None},
    }
    assert found["code_version"] == {"zap": {"then": "0.0.1+0", "now": stored["code_version"]}}


def test_what_cannot_be_reproduced_is_not_found(engine):
    with pytest.raises(NotFound, match="no model version 99"):
        reproduce(engine, 99, no_progress)
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).values(trees_sha256=None))

    with pytest.raises(NotFound, match="version 1 has no fingerprints"):
        reproduce(engine, 1, no_progress)


# Charger types that were not learned.


def add_types(engine, n_types, each, start):
    """Sessions of new types, between those that are there."""
    for number in range(n_types * each):
        add_session(engine, f"{start} 10:{number:02}:00", f"X{number % n_types}")


def test_a_version_is_reproduced_beside_sessions_of_types_that_it_did_not_learn(engine, trained_sqlite):
    add_types(engine, 10, 2, "2024-02-10")
    number = train(engine, trained_sqlite)

    report = reproduce(engine, number, no_progress)

    assert report["reproduced"] is True
    assert len(read_version(engine, number)["classes"]) == 3


def test_what_a_version_did_not_learn_stays_so_when_it_has_become_common(engine, trained_sqlite):
    add_types(engine, 1, 3, "2024-02-10")
    number = train(engine, trained_sqlite)
    add_types(engine, 1, 50, "2024-07-10")

    assert reproduce(engine, number, no_progress)["reproduced"] is True
    assert "X0" in read_version(engine, train(engine, trained_sqlite, test_share=0.01))["classes"]
    assert reproduce(engine, 1, no_progress)["changed_months"].keys() == {"2024-02"}
