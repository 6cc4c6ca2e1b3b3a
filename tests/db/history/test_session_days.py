"""Sessions are read by the day of their start, through the index, whatever form their times have."""

from datetime import date

import pytest
from sqlalchemy import insert, select, text

from zap.db.history.history_rows import SESSIONS
from zap.db.history.session_days import sessions_between, starts_between

FIRST, LAST = date(2024, 1, 31), date(2024, 2, 2)


def fill(engine, *starts):
    with engine.begin() as connection:
        for number, start in enumerate(starts):
            connection.execute(
                text(
                    'INSERT INTO "ChargingSessions" (session_id, charger_type, charging_start_time,'
                    " charging_duration_hours) VALUES (:number, 'A', :start, 1.5)"
                ),
                {"number": number, "start": start},
            )


def found(engine):
    with engine.connect() as connection:
        return [tuple(row) for row in sessions_between(connection, FIRST, LAST)]


def test_it_works(engine):
    """Read the sessions of two days: the first second of the first day, and the last second of the second day."""
    fill(
        engine,
        "2024-01-30 23:59:59",
        "2024-01-31 00:00:00",
        "2024-02-01 23:59:59",
        "2024-02-02 00:00:00",
        None,
    )
    assert sorted(found(engine)) == [
        ("A", "2024-01-31 00:00:00", None, 1.5),
        ("A", "2024-02-01 23:59:59", None, 1.5),
    ]


def test_every_form_of_a_time_is_found_on_sqlite(sqlite_engine):
    forms = ["2024-01-31", "2024-01-31T00:00", "2024-01-31 00:00:00.5", "2024-02-01T23:59:59+05:00", "2024-01-31 x"]
    others = ["2024-01-3", "2024-02-02", "2024-02-02T00:00", "31.01.2024", "", "x", 20240131, b"2024-01-31"]
    fill(sqlite_engine, *forms, *others)
    assert sorted(row[1] for row in found(sqlite_engine)) == sorted(forms)


@pytest.mark.parametrize("start", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_times_that_python_does_not_know_are_no_hindrance_on_postgresql(empty_postgresql_url, at_head, start):
    engine = at_head(empty_postgresql_url)
    fill(engine, start, "2024-01-31 10:00")
    assert [row[1] for row in found(engine)] == ["2024-01-31 10:00:00"]


def test_the_index_is_used(engine):
    with engine.begin() as connection:
        rows = [{"session_id": n, "user_id": f"u{n % 50}", "charger_type": "A"} for n in range(5000)]
        connection.execute(insert(SESSIONS), rows)
        moved = {
            "sqlite": "datetime('2020-01-01', session_id || ' days')",
            "postgresql": "timestamp '2020-01-01' + session_id * interval '1 day'",
        }[engine.dialect.name]
        connection.execute(text(f'UPDATE "ChargingSessions" SET charging_start_time = {moved}'))
    with engine.begin() as connection:
        connection.execute(text('ANALYZE "ChargingSessions"'))
    asked = select(SESSIONS.c.charger_type)
    with engine.connect() as connection:
        asked = asked.where(starts_between(connection, FIRST, LAST))
        query = str(asked.compile(engine, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row) for row in connection.execute(text(explain + query)))
    assert "ix_ChargingSessions_charging_start_time" in plan
    assert len(found(engine)) == 2
