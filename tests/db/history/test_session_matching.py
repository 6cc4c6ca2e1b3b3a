"""Rows without a session_id: rows that differ stay different sessions, and importing them twice adds nothing."""

from datetime import datetime
from random import Random

import pandas as pd
import pytest
from histories import NO_USERS, NO_VEHICLES, table
from sqlalchemy import select

from zap.db.history import session_matching, session_upsert
from zap.db.history.history_rows import SESSIONS
from zap.db.history.history_store import Count, upsert_history

at = datetime.fromisoformat
COLUMNS = ("user_id", "charging_end_time", "energy_consumed_kwh", "charging_cost_usd", "charger_type")
ENDED = ("U", "2024-01-01 11:00", 42.5, None, "Rapid")
LONGER = ("U", "2024-01-01 12:30", 17.5, None, "AC")
BEGUN = ("U", None, None, None, "Rapid")
PAID = ("U", None, None, 9.5, "Rapid")
CORRECTED = ("U", "2024-01-01 11:00", 40.0, None, "Rapid")
WHOLE = ("U", "2024-01-01 11:00", 42.5, 9.5, "Rapid")


def nobody(row):
    return (None, *row[1:])


# Files that are imported one after the other, with what the last one does, and the sessions that are stored then.
# All rows have one start and one station.
STORED = {
    "rows that differ are two sessions": ([[ENDED, LONGER]], Count(added=2), [ENDED, LONGER]),
    "equal rows are one session": ([[ENDED, ENDED]], Count(added=1, repeated=1), [ENDED]),
    "rows that complete each other are one session": ([[BEGUN, ENDED, PAID]], Count(added=1, repeated=2), [WHOLE]),
    "the order of rows does not matter": ([[LONGER, PAID, ENDED]], Count(added=2, repeated=1), [WHOLE, LONGER]),
    "one row completes one session": ([[BEGUN], [ENDED]], Count(updated=1), [ENDED]),
    "one row corrects one session": ([[ENDED], [CORRECTED]], Count(updated=1), [CORRECTED]),
    "a row that says less changes nothing": ([[ENDED], [BEGUN]], Count(unchanged=1), [ENDED]),
    "two rows and one session": ([[ENDED], [ENDED, LONGER]], Count(added=1, unchanged=1), [ENDED, LONGER]),
    "two other rows and one session": (
        [[ENDED], [CORRECTED, LONGER]],
        Count(added=2),
        [ENDED, CORRECTED, LONGER],
    ),
    "one row and two sessions": ([[ENDED, LONGER], [CORRECTED]], Count(added=1), [ENDED, LONGER, CORRECTED]),
    "one row completes one of two sessions": ([[ENDED, LONGER], [PAID]], Count(updated=1), [WHOLE, LONGER]),
    "two rows complete only one session each": (
        [[BEGUN, LONGER], [ENDED, CORRECTED]],
        Count(added=1, updated=1),
        [ENDED, LONGER, CORRECTED],
    ),
    "nobody's rows that differ are different sessions": (
        [[nobody(ENDED), nobody(LONGER)]],
        Count(added=2),
        [nobody(ENDED), nobody(LONGER)],
    ),
    "nobody's equal rows are one session": (
        [[nobody(ENDED), nobody(LONGER), nobody(ENDED)]],
        Count(added=2, repeated=1),
        [nobody(ENDED), nobody(LONGER)],
    ),
    "nobody's row that has begun stays beside the ended one": (
        [[nobody(ENDED), nobody(BEGUN)]],
        Count(added=2),
        [nobody(ENDED), nobody(BEGUN)],
    ),
    "nobody's row does not complete a stored session": (
        [[nobody(BEGUN)], [nobody(ENDED)]],
        Count(added=1),
        [nobody(BEGUN), nobody(ENDED)],
    ),
    "nobody's row does not correct a stored session": (
        [[nobody(ENDED)], [nobody(CORRECTED)]],
        Count(added=1),
        [nobody(ENDED), nobody(CORRECTED)],
    ),
    "a user's row is not nobody's session": ([[nobody(ENDED)], [ENDED]], Count(added=1), [nobody(ENDED), ENDED]),
}


def frame(rows, **more):
    made = table(*rows, columns=COLUMNS).astype({"energy_consumed_kwh": float, "charging_cost_usd": float})
    start = pd.Timestamp("2024-01-01 10:00").as_unit("s")
    return made.assign(charging_start_time=start, charging_station_id="S1", **more)


def store(engine, rows):
    return upsert_history(engine, NO_USERS, NO_VEHICLES, rows).sessions


def stored(engine):
    with engine.connect() as connection:
        rows = connection.execute(select(*(SESSIONS.c[name] for name in COLUMNS))).all()
    return sorted(
        (tuple(str(value) if isinstance(value, datetime) else value for value in row) for row in rows), key=str
    )


def seconds(rows):
    return sorted(((user, end and f"{end}:00", *more) for user, end, *more in rows), key=str)


@pytest.mark.parametrize("name", STORED)
def test_sessions_are_told_apart(sqlite_engine, name):
    files, counted, sessions = STORED[name]

    counts = [store(sqlite_engine, frame(rows)) for rows in files]

    assert counts[-1] == counted
    assert stored(sqlite_engine) == seconds(sessions)
    # The last file again adds and changes nothing.
    again = store(sqlite_engine, frame(files[-1]))
    assert (again.added, again.updated) == (0, 0)
    assert stored(sqlite_engine) == seconds(sessions)


def test_it_works(engine):
    """Store rows of two users and of nobody that begin in one second, on each engine."""
    rows = frame([ENDED, LONGER, nobody(ENDED), nobody(LONGER), nobody(ENDED)])

    assert store(engine, rows) == Count(added=4, repeated=1)
    assert store(engine, rows) == Count(unchanged=4, repeated=1)


def test_a_column_that_the_file_does_not_have_says_nothing(sqlite_engine):
    rows = frame([nobody(ENDED), nobody(LONGER)], vehicle_model="Leaf")
    store(sqlite_engine, rows)

    assert store(sqlite_engine, rows.drop(columns=["vehicle_model", "charging_cost_usd"])) == Count(unchanged=2)
    assert store(sqlite_engine, rows.assign(vehicle_model=None)) == Count(added=2)


def test_a_session_without_facts_takes_the_facts_of_its_row(sqlite_engine):
    # An older zap stored no facts.
    store(sqlite_engine, frame([nobody(ENDED), nobody(LONGER)]))
    rows = frame([nobody(ENDED), nobody(ENDED), nobody(LONGER)], vehicle_model=["Leaf", "Zoe", "Leaf"])

    assert store(sqlite_engine, rows) == Count(added=1, updated=2)
    assert store(sqlite_engine, rows) == Count(unchanged=3)


@pytest.mark.parametrize("user", ["guest", None])
def test_a_key_of_very_many_rows_is_compared_as_a_whole(sqlite_engine, monkeypatch, user):
    # Twelve rows of which each says something else begin at one time, and do not fit into one chunk.
    monkeypatch.setattr(session_matching, "_MOST_ALIKE", 10)
    monkeypatch.setattr(session_upsert, "CHUNK", 5)
    rows = frame([(user, None, energy or None, None, "A") for energy in range(12)])

    assert store(sqlite_engine, pd.concat([rows, rows], ignore_index=True)) == Count(added=12, repeated=12)
    assert store(sqlite_engine, rows) == Count(unchanged=12)
    # A file with fewer rows compares value by value again: one row says nothing that is not stored.
    assert store(sqlite_engine, rows[:9]) == (Count(unchanged=8, repeated=1) if user else Count(unchanged=9))


def test_rows_of_one_key_are_compared_across_the_border_of_a_chunk(sqlite_engine, monkeypatch):
    monkeypatch.setattr(session_upsert, "CHUNK", 2)
    others = [(f"A{number}", None, None, None, "A") for number in range(1)]

    assert store(sqlite_engine, frame([*others, BEGUN, ENDED, PAID, LONGER])) == Count(added=3, repeated=2)


def test_rows_that_differ_in_their_facts_only_are_kept_across_the_border_of_a_chunk(sqlite_engine, monkeypatch):
    monkeypatch.setattr(session_upsert, "CHUNK", 1)
    rows = frame([nobody(ENDED), nobody(ENDED)], vehicle_model=[None, "Zoe"])

    assert store(sqlite_engine, rows) == Count(added=2)
    assert store(sqlite_engine, rows) == Count(unchanged=2)


def test_any_files_are_stored_whole_and_once(sqlite_engine):
    # Whatever was stored before: each value of each row is in a session with its key, and the second time changes
    # nothing.
    random = Random(4)
    for _ in range(25):
        rows = [
            (
                random.choice([None, "U", "V"]),
                random.choice([None, "2024-01-01 11:00", "2024-01-01 12:00"]),
                random.choice([None, 1.0, 2.0]),
                random.choice([None, 3.0]),
                random.choice(["A", "B"]),
            )
            for _ in range(random.randint(1, 6))
        ]
        counts = store(sqlite_engine, frame(rows))
        assert counts.added + counts.updated + counts.unchanged + counts.repeated == len(rows)
        before = stored(sqlite_engine)
        for row in seconds(rows):
            assert any(all(one is None or one == other for one, other in zip(row, it, strict=True)) for it in before)
            assert row[0] is not None or row in before

        again = store(sqlite_engine, frame(rows))

        assert (again.added, again.updated) == (0, 0)
        assert stored(sqlite_engine) == before
