"""The rows of the sample history in the database: known by the ids of their drivers, and removed."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from sqlalchemy import ColumnElement, Engine, Table, delete, exists, select

from zap.db.audit import note
from zap.db.engine import background_transactions, write_transaction
from zap.db.history.history_rows import IN_ONE_QUESTION, SESSIONS, USERS, VEHICLES, take_turn
from zap.db.history.session_removal import delete_sessions
from zap.ml.features import SAMPLE_USER_PREFIX, is_sample_user
from zap.progress import Progress, no_progress

# How many sessions one transaction removes, so that other writers wait only for milliseconds.
_SESSIONS_AT_A_TIME = 1000


class SampleCounts(NamedTuple):
    """The numbers of removed rows."""

    users: int
    vehicles: int
    sessions: int


def has_other_sessions(engine: Engine) -> bool:
    """Return whether there are charging sessions that are not of the sample."""
    user = SESSIONS.c.user_id
    with engine.connect() as connection:
        if connection.scalar(select(exists(select(1).where(user.is_(None) | ~_maybe_sample(SESSIONS))))):
            return True
        named = connection.scalars(select(user).where(_maybe_sample(SESSIONS)).distinct())
        return any(not is_sample_user(user_id) for user_id in named)


def remove_sample(engine: Engine, progress: Progress = no_progress) -> SampleCounts:
    """Remove the drivers of the sample history, their vehicles, and their sessions with their facts.

    Every session of such a driver is removed, also if an app has reported it. A vehicle stays if another driver's
    session names it. Each transaction is short. If this is interrupted, it can be called again.

    Args:
        engine: on a database at head.
        progress: called with "removing" and the number of drivers whose rows are removed.
    """
    users, shared = _sample_users(engine), _shared_vehicles(engine)
    transaction = background_transactions(engine)
    if users:
        # Before the first of many transactions: nothing is removed without this row.
        with write_transaction(engine) as connection:
            note(connection, "history.remove", "sample history", before={"drivers": len(users)})
    removed_users = removed_vehicles = removed_sessions = 0
    for start in range(0, len(users), IN_ONE_QUESTION):
        some = users[start : start + IN_ONE_QUESTION]
        progress("removing", start, len(users))
        session = SESSIONS.c.session_id
        theirs = select(session).where(SESSIONS.c.user_id.in_(some)).limit(_SESSIONS_AT_A_TIME)
        while True:
            with transaction() as connection:
                take_turn(connection)
                found = connection.scalars(theirs).all()
                delete_sessions(connection, found)
                removed_sessions += len(found)
                if len(found) == _SESSIONS_AT_A_TIME:
                    continue
                # The rows of the drivers are removed last: they show what an interrupted removal has left.
                vehicles = VEHICLES.c.user_id.in_(some) & VEHICLES.c.vehicle_id.not_in(shared)
                removed_vehicles += connection.execute(delete(VEHICLES).where(vehicles)).rowcount
                removed_users += connection.execute(delete(USERS).where(USERS.c.user_id.in_(some))).rowcount
                break
    progress("removing", len(users), len(users))
    return SampleCounts(removed_users, removed_vehicles, removed_sessions)


def _sample_users(engine: Engine) -> Sequence[str]:
    """Return the ids of the sample's drivers in all tables of the history, in order."""
    with engine.connect() as connection:
        named = chain.from_iterable(
            connection.scalars(select(table.c.user_id).where(_maybe_sample(table)).distinct())
            for table in (USERS, VEHICLES, SESSIONS)
        )
        return sorted(set(_of_sample(named)))


def _shared_vehicles(engine: Engine) -> list[int]:
    """Return the vehicles of the sample that sessions of other drivers name."""
    ours = select(VEHICLES.c.vehicle_id).where(_maybe_sample(VEHICLES))
    of_others = SESSIONS.c.user_id.is_(None) | ~_maybe_sample(SESSIONS)
    with engine.connect() as connection:
        named = select(SESSIONS.c.vehicle_id).where(of_others & SESSIONS.c.vehicle_id.in_(ours)).distinct()
        return list(connection.scalars(named))


def _maybe_sample(table: Table) -> ColumnElement[bool]:
    """Return the condition for ids that begin like the sample's; `is_sample_user` decides."""
    return table.c.user_id.like(f"{SAMPLE_USER_PREFIX}%")


def _of_sample(user_ids: Iterator[str]) -> Iterator[str]:
    return (user_id for user_id in user_ids if is_sample_user(user_id))
