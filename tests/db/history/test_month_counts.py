"""The sessions are counted by month, day and type, whatever texts stand in place of times."""

from datetime import date

from sqlalchemy import text

from zap.db.history.month_counts import (
    MOST_TYPES,
    OTHER_TYPES,
    count_all,
    count_month,
    months_with_sessions,
    next_month,
)

MARCH = date(2024, 3, 1)


def fill(engine, *sessions):
    with engine.begin() as connection:
        for number, (start, used, user) in enumerate(sessions, 1):
            connection.execute(
                text(
                    'INSERT INTO "ChargingSessions" (session_id, charger_type, charging_start_time, user_id)'
                    " VALUES (:number, :used, :start, :user)"
                ),
                {"number": number, "used": used, "start": start, "user": user},
            )


def test_it_works(engine):
    fill(
        engine,
        ("2024-03-01 00:00:00", "Level 1", "a"),
        ("2024-03-31 23:59:59", " Level 1", "a"),
        ("2024-03-31 10:00:00", "Level 2", "b"),
        ("2024-03-05 10:00:00", None, None),
        ("2024-01-15 10:00:00", "Level 1", "c"),
        (None, "Level 1", "d"),
    )
    with engine.connect() as connection:
        march = count_month(connection, MARCH)

        assert list(months_with_sessions(connection)) == [MARCH, date(2024, 1, 1)]
        assert march.types == {"Level 1": 2, "Level 2": 1}
        assert (march.without_type, march.sessions, march.drivers) == (1, 4, 2)
        assert march.days == {date(2024, 3, 1), date(2024, 3, 5), date(2024, 3, 31)}
        assert count_month(connection, date(2024, 2, 1)).sessions == 0
        assert count_all(connection) == (6, 4)


def test_texts_that_are_no_times_are_passed_over(sqlite_engine):
    fill(
        sqlite_engine,
        ("2024-03-01T00:00", "A", "a"),
        ("2024-03-01", "A", "a"),
        ("2024-03-xx", "A", "a"),
        ("12/31/2023", "A", "a"),
        ("yesterday", "A", "a"),
        ("2023-13-40 10:00:00", "A", "a"),
        ("", "A", "a"),
        ("1999-12-31 23:59:59.5", "A", "a"),
    )
    with sqlite_engine.connect() as connection:
        months = list(months_with_sessions(connection))

        assert months == [MARCH, date(1999, 12, 1)]
        assert count_month(connection, MARCH).sessions == 2


def test_rare_types_are_counted_together(sqlite_engine):
    types = [f"type {number}" for number in range(MOST_TYPES + 5)]
    fill(sqlite_engine, *(("2024-03-01 10:00:00", name, "a") for name in [*types, types[-1]]))
    with sqlite_engine.connect() as connection:
        found = count_month(connection, MARCH)

    assert found.sessions == MOST_TYPES + 6
    assert (found.types[types[-1]], found.types[OTHER_TYPES]) == (2, 5)


def test_the_last_month_has_no_next_one():
    assert next_month(date(2024, 12, 1)) == date(2025, 1, 1)
    assert next_month(date(9999, 12, 1)) == date.max
