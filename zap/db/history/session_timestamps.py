"""When sessions were first stored: the column `timestamp` of ChargingSessions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select

from zap.db.history.history_rows import SESSIONS, in_parts, raw_columns


def read_timestamps(engine: Engine, session_ids: Sequence[int]) -> dict[int, Any]:
    """Return the raw timestamps of stored sessions, as `measure_reporting` takes them.

    A training needs the timestamps of a few thousand of the newest sessions, so it does not read the whole column.
    """
    with engine.connect() as connection:
        asked = select(SESSIONS.c.session_id, *raw_columns(connection, SESSIONS, ("timestamp",)))
        return {
            session_id: timestamp
            for some in in_parts(session_ids)
            for session_id, timestamp in connection.execute(asked.where(SESSIONS.c.session_id.in_(some)))
        }
