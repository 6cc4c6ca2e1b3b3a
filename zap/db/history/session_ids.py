"""The numbers of sessions in the database: numbers for texts, and numbers for sessions that come without an id.

The app chooses the ids of the sessions that it reports, from 0 up. So zap gives negative numbers, which the app cannot
use: neither for its next session nor for one that it reports later.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, func, insert, select
from sqlmodel import SQLModel

from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, in_parts, raw_columns, stored_time

TEXT_IDS = SQLModel.metadata.tables["session_text_ids"]
_IN_ONE_QUESTION = 10_000


def new_numbers(connection: Connection, count: int) -> range:
    """Return ascending numbers for new sessions, below every number that is used. Call `take_turn` before.

    Facts and texts may be left from a session that another program has removed. A new session must not get them. The
    removal of the session with the lowest number leaves such facts, so that zap gives no number twice.
    """
    used = (connection.scalar(select(func.min(table.c.session_id))) for table in (SESSIONS, SESSION_FACTS, TEXT_IDS))
    lowest = min(number or 0 for number in (0, *used))
    return range(lowest - count, lowest)


def numbers_of(connection: Connection, texts: Collection[str]) -> dict[str, int]:
    """Return the number of each text that has one."""
    asked = select(TEXT_IDS.c.text_id, TEXT_IDS.c.session_id)
    return {
        text: number
        for some in in_parts(list(texts), _IN_ONE_QUESTION)
        for text, number in connection.execute(asked.where(TEXT_IDS.c.text_id.in_(some)))
    }


def id_of(connection: Connection, number: int) -> str:
    """Return the id that the reports of a session have: its text, or its number as a text."""
    text = connection.scalar(select(TEXT_IDS.c.text_id).where(TEXT_IDS.c.session_id == number))
    return str(number) if text is None else str(text)


def number_texts(connection: Connection, texts: Sequence[str]) -> dict[str, int]:
    """Store ascending numbers for new texts, and return them. Call `take_turn` before."""
    if not texts:
        return {}
    numbers = dict(zip(texts, new_numbers(connection, len(texts)), strict=True))
    connection.execute(insert(TEXT_IDS), [{"text_id": text, "session_id": number} for text, number in numbers.items()])
    return numbers


def is_another(user: object, start: object, stored_user: object, stored_start: object) -> bool:
    """Return whether a row with the id of a stored session is another session: its user and its start differ.

    Two unknown users need not be one user. A stored session without user and start may be any session.
    """
    if start == stored_start or (stored_user is None and stored_start is None):
        return False
    return user is None or user != stored_user


def whose_session(user: object, start: object) -> str:
    """Return the user and the start of a stored session in words."""
    return f"{f'the user {user}' if user else 'no user'} and {f'the start {start}' if start else 'no start'}"


def taken_ids(
    connection: Connection, ids: Sequence[int | str | None], users: Sequence[object], starts: Sequence[object]
) -> dict[int, str]:
    """Return the places of the rows whose id belongs to another stored session, each with the reason in words.

    Args:
        connection: on a database at head.
        ids: for each row its id; None if it has none.
        users: for each row its user; None if it is unknown.
        starts: for each row its start, a naive datetime.
    """
    of_texts = numbers_of(connection, {one for one in ids if isinstance(one, str)})
    numbers = [of_texts.get(one) if isinstance(one, str) else one for one in ids]
    taken = {}
    asked = select(SESSIONS.c.session_id, *raw_columns(connection, SESSIONS, ("user_id", "charging_start_time")))
    for places in in_parts(range(len(ids)), _IN_ONE_QUESTION):
        wanted = {number for number in numbers[places[0] : places[-1] + 1] if number is not None}
        found = connection.execute(asked.where(SESSIONS.c.session_id.in_(wanted))) if wanted else ()
        stored = {number: (user, start) for number, user, start in found}
        for place in places if stored else ():
            one = stored.get(numbers[place])
            # Most rows have the stored user, and their starts need not be compared.
            if one is not None and (users[place] is None or users[place] != one[0]):
                whose = (one[0], stored_time(one[1]))
                if is_another(users[place], starts[place], *whose):
                    said = f"is stored with {whose_session(*whose)}: it is another session"
                    taken[place] = f"session_id {ids[place]} {said}"
    return taken
