"""Sessions are removed with all that zap keeps of them, all of them or none."""

import pytest
from histories import NO_USERS, NO_VEHICLES, table
from sqlalchemy import select

from zap.db.history.history_rows import SESSION_FACTS, SESSIONS
from zap.db.history.history_store import upsert_history
from zap.db.history.session_ids import TEXT_IDS
from zap.db.history.session_removal import remove_sessions
from zap.errors import NotFound


@pytest.fixture
def filled(engine):
    """A database with a session of each kind of id, each with facts."""
    columns = ("session_id", "session_text", "user_id", "charging_start_time", "user_type")
    rows = table(
        (7, None, "U", "2024-01-01 10:00", "Commuter"),
        (None, "a", "U", "2024-01-02 10:00", "Commuter"),
        (None, None, "V", "2024-01-03 10:00", "Commuter"),
        (None, None, None, "2024-01-04 10:00", "Commuter"),
        columns=columns,
    ).astype({"session_id": "Int64"})
    upsert_history(engine, NO_USERS, NO_VEHICLES, rows)
    return engine


def left(engine):
    """The numbers of the sessions, of the facts and of the texts."""
    with engine.connect() as connection:
        return [
            sorted(connection.scalars(select(kept.c.session_id)).all()) for kept in (SESSIONS, SESSION_FACTS, TEXT_IDS)
        ]


def test_it_works(filled):
    """Remove a session by its number, by its text, and by the number that zap gave it."""
    assert left(filled) == [[-3, -2, -1, 7], [-3, -2, -1, 7], [-1]]

    assert remove_sessions(filled, [7, "a", -3, 7]) == {"U", "V"}

    # The lowest number is kept in use.
    assert left(filled) == [[-2], [-3, -2], []]
    assert remove_sessions(filled, [-2]) == frozenset()
    assert left(filled) == [[], [-3], []]


def test_no_number_is_given_twice(filled):
    columns = ("session_id", "session_text", "user_id", "charging_start_time", "user_type")
    remove_sessions(filled, [-3, "a", -2])

    for text in (None, "b"):
        rows = table((None, text, "W", f"2024-02-0{1 + (text is None)} 10:00", "Taxi"), columns=columns)
        upsert_history(filled, NO_USERS, NO_VEHICLES, rows.astype({"session_id": "Int64"}))

    # Someone who removes the earlier session -3 again removes nothing.
    assert left(filled)[0] == [-5, -4, 7]
    with pytest.raises(NotFound):
        remove_sessions(filled, [-3])
    with filled.connect() as connection:
        facts = dict(connection.execute(select(SESSION_FACTS.c.session_id, SESSION_FACTS.c.user_type)).all())
    assert facts == {-5: "Taxi", -4: "Taxi", -3: None, 7: "Commuter"}


def test_an_unknown_id_removes_nothing(filled):
    before = left(filled)

    with pytest.raises(NotFound, match="there is no session 8, b; nothing was removed"):
        remove_sessions(filled, [7, 8, "b"])
    with pytest.raises(NotFound, match=r"there is no session 8$"):
        remove_sessions(filled, [8])
    assert left(filled) == before


def test_a_text_whose_session_another_program_removed_is_unknown(filled):
    remove_sessions(filled, [-1])

    with pytest.raises(NotFound, match="there is no session a"):
        remove_sessions(filled, ["a"])


def test_a_thousand_are_removed(engine):
    days = table(*((number, "U", "2024-01-01 10:00") for number in range(1200)),
                 columns=("session_id", "user_id", "charging_start_time"))  # fmt: skip
    upsert_history(engine, NO_USERS, NO_VEHICLES, days)

    assert remove_sessions(engine, range(1100)) == {"U"}
    assert left(engine)[0] == [*range(1100, 1200)]
