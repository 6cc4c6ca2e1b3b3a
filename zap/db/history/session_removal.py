"""The removal of sessions from the history."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, delete, insert, select

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, in_parts, take_turn
from zap.db.history.session_ids import TEXT_IDS, new_numbers, numbers_of
from zap.db.history.session_predictions import remove_names
from zap.errors import NotFound
from zap.formats.session_ids import wrong_session_text

# How many unknown ids a message shows.
_SHOWN = 10
# How many ids of removed sessions the audit names.
_NOTED = 100


def remove_sessions(engine: Engine, ids: Sequence[int | str]) -> frozenset[str]:
    """Remove sessions with their facts, texts and named answers, all of them in one transaction or none.

    Args:
        engine: on a database at head.
        ids: the ids of the sessions. An id that appears twice is removed once.

    Returns:
        The drivers whose history has changed.

    Raises:
        NotFound: there is no session with one of the ids. Nothing was removed.
        SQLAlchemyError: another writer took too long. Nothing was removed.
    """
    with write_transaction(engine) as connection:
        take_turn(connection)
        # Another text is no id of a session, and the database may not be able to read it.
        numbers = numbers_of(connection, [one for one in ids if isinstance(one, str) and not wrong_session_text(one)])
        wanted = {one: numbers.get(one) if isinstance(one, str) else one for one in ids}
        drivers = _drivers(connection, [number for number in wanted.values() if number is not None])
        if unknown := [str(one) for one, number in wanted.items() if number not in drivers]:
            more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
            nothing = "; nothing was removed" if len(wanted) > 1 else ""
            raise NotFound(f"there is no session {', '.join(unknown[:_SHOWN])}{more}{nothing}")
        delete_sessions(connection, [*drivers])
        shown = {"sessions": len(drivers), "ids": [str(one) for one in wanted][:_NOTED]}
        subject = f"session {ids[0]}" if len(wanted) == 1 else f"{len(wanted):,} sessions"
        note(connection, "history.remove", subject, before=shown)
    return frozenset(driver for driver in drivers.values() if driver is not None)


def delete_sessions(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete stored sessions with their facts, texts and named answers.

    zap gives none of their numbers to a later session.
    """
    lowest = new_numbers(connection, 0).start
    for some in in_parts(numbers):
        for table in (SESSIONS, SESSION_FACTS, TEXT_IDS):
            connection.execute(delete(table).where(table.c.session_id.in_(some)))
    remove_names(connection, numbers)
    if lowest in numbers:
        # New numbers are below every number that is used, so a row without facts keeps the lowest number in use.
        connection.execute(insert(SESSION_FACTS), [{"session_id": lowest}])


def _drivers(connection: Connection, numbers: Sequence[int]) -> dict[int, str | None]:
    """Return the driver of each stored session."""
    asked = select(SESSIONS.c.session_id, SESSIONS.c.user_id)
    return {
        number: driver
        for some in in_parts(numbers)
        for number, driver in connection.execute(asked.where(SESSIONS.c.session_id.in_(some)))
    }
