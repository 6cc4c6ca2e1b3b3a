"""The answers whose outcome a change of sessions may change."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from zap.db.history.session_changes import ChangedSession
from zap.db.monitoring.given_rows import TEXT, TIME, among, fetched, given, joined
from zap.formats.values import FIRST_YEAR, LAST_YEAR
from zap.ml.cells import read_wall_time
from zap.monitoring.matching import EARLY


def answers_of(
    connection: Connection, changes: Sequence[ChangedSession], horizon: timedelta, after: int, most: int
) -> list[int]:
    """Return the followed answers whose outcome the changes may change, in order.

    They are the answers that have one of these sessions now, the answers that these sessions name now, and the answers
    to their drivers about the time around their old and new starts.

    Args:
        connection: on a database at head.
        changes: changes of sessions, at least one.
        horizon: as in `zap.monitoring.matching.matched`.
        after: return only answers with larger numbers.
        most: the most answers to return.
    """
    ids = sorted({one.session_id for one in changes if one.session_id is not None})
    have, have_ids = among(connection, "o.session_id", ids)
    named, named_ids = among(connection, "n.session_id", ids)
    names = "session_predictions AS n JOIN outcomes AS o ON o.prediction_id = n.prediction_id"
    queries = [f"outcomes AS o WHERE {have}", f"{names} WHERE {named}"]
    parameters = [*have_ids, *named_ids]
    if windows := sorted(set(_windows(changes, horizon))):
        table, rows = given(connection, {"user_id": TEXT, "low": TIME, "high": TIME}, windows)
        around = "o.user_id = given.user_id AND o.asked_at BETWEEN given.low AND given.high"
        queries.append(f"{table} {joined(connection, 'outcomes', 'o', around)}")
        parameters += rows
    all_of_them = " UNION ".join(f"SELECT o.prediction_id FROM {one}" for one in queries)  # noqa: S608
    asked = (
        f"SELECT prediction_id FROM ({all_of_them}) AS found WHERE prediction_id > {after:d}"  # noqa: S608
        f" ORDER BY prediction_id LIMIT {most:d}"
    )
    return [number for (number,) in fetched(connection, asked, parameters)]


def _windows(changes: Sequence[ChangedSession], horizon: timedelta) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield for each driver and start the moments asked about for which the session may be the first one."""
    for one in changes:
        start = read_wall_time(one.start)
        if one.user_id is not None and start is not None and FIRST_YEAR - 1 <= start.year <= LAST_YEAR + 1:
            yield str(one.user_id), start - horizon, start + EARLY
