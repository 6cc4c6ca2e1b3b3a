"""The figures of the history: what they say, and that only changed months are counted again."""

from datetime import date

import pytest
from sqlalchemy import event, text
from structlog.testing import capture_logs

from zap.flows import history_figures
from zap.flows.history_figures import HistoryCounter, Hole

LONG = 30.0


@pytest.fixture
def counter(engine):
    counter = HistoryCounter(engine)
    yield counter
    counter.close()


def add(engine, number, start, used="Level 2", user="a"):
    with engine.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO "ChargingSessions" (session_id, charger_type, charging_start_time, user_id)'
                " VALUES (:number, :used, :start, :user)"
            ),
            {"number": number, "used": used, "start": start, "user": user},
        )


def read_again(counter):
    """Return the newest figures as if the pause between two counts were over."""
    counter._next_count = 0.0
    return counter.read(LONG)


def test_it_works(engine, counter):
    assert counter.read(LONG).sessions == 0
    for number, start in enumerate(["2024-01-05", "2024-01-06", "2024-01-10", "2024-04-01"], 1):
        add(engine, number, f"{start} 10:00:00", used="Level 1" if number == 1 else "Level 2", user=str(number % 2))
    add(engine, 9, None, user=None)
    found = read_again(counter)

    assert (found.sessions, found.undated, found.drivers) == (5, 1, 2)
    assert [(month.month.month, month.sessions) for month in found.months] == [(1, 3), (2, 0), (3, 0), (4, 1)]
    assert found.types == ["Level 2", "Level 1"]
    assert (found.first, found.last) == (date(2024, 1, 5), date(2024, 4, 1))
    assert found.holes == [
        Hole(date(2024, 1, 11), date(2024, 3, 31), 81),
        Hole(date(2024, 1, 7), date(2024, 1, 9), 3),
    ]
    assert (found.hole_count, found.empty_days) == (2, 84)


def test_only_changed_months_are_counted_again(engine, counter):
    for month in range(1, 7):
        add(engine, month, f"2024-0{month}-15 10:00:00")
    counter.read(LONG)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    with engine.begin() as connection:
        connection.execute(text('DELETE FROM "ChargingSessions" WHERE session_id = 6'))
        connection.execute(text("UPDATE \"ChargingSessions\" SET charger_type = 'Level 1' WHERE session_id = 2"))
    found = read_again(counter)

    assert len([one for one in asked if "GROUP BY" in one]) == 2
    assert (found.sessions, found.last, found.types) == (5, date(2024, 5, 15), ["Level 2", "Level 1"])


def test_a_database_that_fails_leaves_the_known_figures(sqlite_engine):
    counter = HistoryCounter(sqlite_engine)
    add(sqlite_engine, 1, "2024-01-05 10:00:00")
    known = counter.read(LONG)
    add(sqlite_engine, 2, "2024-01-06 10:00:00")
    with sqlite_engine.begin() as connection:
        connection.execute(text('ALTER TABLE "ChargingSessions" RENAME TO elsewhere'))

    assert read_again(counter) is known
    assert counter.has_failed
    with sqlite_engine.begin() as connection:
        connection.execute(text('ALTER TABLE elsewhere RENAME TO "ChargingSessions"'))
    assert read_again(counter).sessions == 2
    assert not counter.has_failed
    counter.close()
    assert counter.read(0.0).sessions == 2


def test_any_other_error_is_told_too(sqlite_engine, monkeypatch):
    monkeypatch.setattr(history_figures, "count_all", lambda _: 1 / 0)
    counter = HistoryCounter(sqlite_engine)

    with capture_logs() as logs:
        assert counter.read(LONG) is None
    assert counter.has_failed
    assert any(one["event"] == "the history could not be counted" for one in logs)
    counter.close()


def test_a_type_that_is_not_utf_8_is_counted(sqlite_engine):
    add(sqlite_engine, 1, "2024-01-05 10:00:00")
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE \"ChargingSessions\" SET charger_type = CAST(X'FF41' AS TEXT)"))
    counter = HistoryCounter(sqlite_engine)

    assert counter.read(LONG).sessions == 1
    counter.close()


def test_a_count_does_not_begin_before_its_pause_is_over(engine, counter):
    counter.read(LONG)
    add(engine, 1, "2024-01-05 10:00:00")

    assert counter.read(LONG).sessions == 0
    assert read_again(counter).sessions == 1
