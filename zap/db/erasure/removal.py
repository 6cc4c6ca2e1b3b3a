"""The removal of all rows of one driver, in one transaction."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from zap.db.erasure.driver_rows import DriverRows
from zap.db.erasure.kept_examples import examples_of, remove_examples, remove_samples, samples_of
from zap.db.history.history_rows import SESSIONS, in_parts, raw_columns, stored_time
from zap.db.history.session_changes import CHANGES
from zap.db.history.session_predictions import log_as_changed
from zap.db.history.session_removal import delete_sessions
from zap.db.monitoring.follower_marks import FOLLOWER
from zap.db.monitoring.given_rows import among, fetched, is_sqlite

# The tables of sessions that `delete_sessions` removes rows from.
_OF_SESSIONS = ("ChargingSessions", "session_facts", "session_text_ids", "session_predictions")
_DAY_CHARACTERS = 10


def stop_follower(connection: Connection) -> None:
    """Take the lease from the follower until this transaction ends, as the first change of the transaction.

    The follower cannot write any more what it has read before. It begins again at once, with the rows that are left.
    """
    connection.execute(update(FOLLOWER).values(holder=None, heartbeat_at=None))


def remove_rows(connection: Connection, rows: DriverRows) -> dict[str, int]:
    """Remove all rows of a driver, and what versions and monitors keep of the driver.

    Sums and counts over all drivers stay: they name nobody.

    Args:
        connection: a transaction that writes, after `stop_follower`.
        rows: the rows of the driver.

    Returns:
        For each table how many rows were removed, or changed so that the driver is no longer in them.
    """
    starts = starts_of(connection, rows.sessions)
    counts = {
        "model_versions": remove_examples(connection, list(examples_of(connection, starts))),
        "monitor_states": remove_samples(connection, list(samples_of(connection, rows.user_id))),
        "trial_predictions": _delete(connection, "trial_predictions", "prediction_id", rows.predictions),
        "outcomes": _delete(connection, "outcomes", "prediction_id", rows.predictions),
    }
    others = _sessions_of_others(connection, rows)
    named = _delete(connection, "session_predictions", "prediction_id", rows.predictions)
    counts |= {
        "predictions": _delete(connection, "predictions", "prediction_id", rows.predictions),
        "inference_inputs": _delete(connection, "inference_inputs", "input_id", rows.inputs),
        **{name: _count(connection, name, rows.sessions) for name in _OF_SESSIONS},
    }
    counts["session_predictions"] += named
    delete_sessions(connection, rows.sessions)
    counts["Vehicles"] = _delete(connection, "Vehicles", "vehicle_id", rows.vehicles)
    mark = "?" if is_sqlite(connection) else "%s"
    removed = connection.exec_driver_sql(f'DELETE FROM "Users" WHERE user_id = {mark}', (rows.user_id,))  # noqa: S608
    counts["Users"] = removed.rowcount
    counts["session_changes"] = _forget_changes(connection, rows)
    # These sessions have lost the answers that their reports named, so the follower looks for other answers.
    log_as_changed(connection, others)
    return counts


def starts_of(connection: Connection, sessions: Sequence[int]) -> set[datetime]:
    """Return when sessions started, as wall time. A start that is no time is left out."""
    (start,) = raw_columns(connection, SESSIONS, ("charging_start_time",))
    found = {
        stored_time(text)
        for some in in_parts(sessions)
        for text in connection.scalars(select(start).where(SESSIONS.c.session_id.in_(some)))
    }
    return {one for one in found if isinstance(one, datetime) and one.tzinfo is None}


def _delete(connection: Connection, table: str, column: str, ids: Sequence[int]) -> int:
    which, parameters = among(connection, column, ids)
    if table == "trial_predictions":
        # The trial is the first column of the only index.
        which = f"trial_id IN (SELECT trial_id FROM trials) AND {which}"  # noqa: S608
    return connection.exec_driver_sql(f"DELETE FROM {_quoted(table)} WHERE {which}", parameters).rowcount  # noqa: S608


def _count(connection: Connection, table: str, sessions: Sequence[int]) -> int:
    which, parameters = among(connection, "session_id", sessions)
    ((count,),) = fetched(connection, f"SELECT count(*) FROM {_quoted(table)} WHERE {which}", parameters)  # noqa: S608
    return int(count)


def _sessions_of_others(connection: Connection, rows: DriverRows) -> list[int]:
    """Return the sessions of other drivers whose reports named answers to this driver."""
    which, parameters = among(connection, "prediction_id", rows.predictions)
    asked = f"SELECT session_id FROM session_predictions WHERE {which}"  # noqa: S608
    named = {number for (number,) in fetched(connection, asked, parameters)}
    return sorted(named.difference(rows.sessions))


def _forget_changes(connection: Connection, rows: DriverRows) -> int:
    """Take the driver, and the times of the day, out of the log of changes.

    The days stay for an hour, so that every server forgets the sessions, and the follower forgets their outcomes.
    """
    day = func.substr(CHANGES.c.charging_start_time, 1, _DAY_CHARACTERS)
    changed = update(CHANGES).values(user_id=None, charging_start_time=day)
    count: int = connection.execute(changed.where(CHANGES.c.user_id == rows.user_id)).rowcount
    for some in in_parts(rows.sessions):
        count += connection.execute(
            changed.where(CHANGES.c.session_id.in_(some), func.length(CHANGES.c.charging_start_time) > _DAY_CHARACTERS)
        ).rowcount
    return count


def _quoted(table: str) -> str:
    return f'"{table}"'
