"""Which old requests may be removed: the ones whose answers nothing needs any more.

An answer is needed until the follower has read it, until a running trial has ended, until its outcome is known, and
until the monitors of drift and harm have counted it. So the sums of days, the monitors and the verdicts of trials do
not change when requests are removed. An answer is also needed while it has the session of an older answer that stays:
without it, the session would count for the older answer too.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select
from sqlmodel import col

from zap.db.monitoring.given_rows import among, fetched
from zap.db.monitoring.monitor_states import read_parts, read_place
from zap.db.monitoring.outcome_arrivals import arrived_delays
from zap.db.monitoring.trial_predictions import followed_until, is_followed
from zap.db.monitoring_tables import Trial
from zap.db.tables import ModelVersion
from zap.errors import DamagedRow
from zap.monitoring.matching import MATCHED, WAITING
from zap.monitoring.outcome_arrivals import LONGEST, usual_delay

# The follower and a running trial may keep a request for longer. Nothing else does: a monitor may fail forever, and a
# request may ask about a moment that is years away.
_LONGEST_WAIT = LONGEST + timedelta(days=7)
_COLUMNS = "p.prediction_id, p.input_id, p.model_version, o.status, o.asked_at, o.session_id"


class Needs(NamedTuple):
    """What still needs answers.

    Attributes:
        until: the answers after this one are not followed, or a running trial compares them.
        serving: the version in production; None without one.
        drift: the last answer of this version that drift has counted; None if drift counts nothing.
        harm: the last day (wall time) of this version that harm has counted; None if harm counts nothing.
        waits: an outcome may still come for an answer about a moment after this one (wall time).
        before: for requests from before this moment (UTC), only `until` counts.
    """

    until: int
    serving: int | None
    drift: int | None
    harm: date | None
    waits: datetime
    before: datetime


class Removable(NamedTuple):
    """Requests that may be removed now.

    Attributes:
        input_ids: the requests.
        prediction_ids: all answers to them, in order.
        are_more: whether later requests may be removable too.
    """

    input_ids: list[int]
    prediction_ids: list[int]
    are_more: bool


class _Logged(NamedTuple):
    prediction_id: int
    input_id: int
    model_version: int | None
    status: str | None
    asked_at: datetime | None
    session_id: int | None


def read_needs(
    connection: Connection, before: datetime, now: datetime, wall_now: datetime, horizon: timedelta
) -> Needs:
    """Return what needs answers now.

    Args:
        connection: on the database.
        before: requests from before this moment (UTC) are to be removed.
        now: the present moment (UTC).
        wall_now: the present moment, as the drivers' wall time.
        horizon: how long after the moment asked about a session may start.
    """
    number = col(ModelVersion.model_version)
    serving = connection.scalar(select(number).where(col(ModelVersion.status) == "production"))
    on_trial = (col(Trial.status) == "running") & (col(Trial.longest_until) > now - _LONGEST_WAIT)
    compared = connection.scalar(select(func.min(col(Trial.after_prediction_id))).where(on_trial))
    # If the follower has to read a day first, the day's requests stay: it counts a day's requests while all are there.
    until = followed_until(connection) if is_followed(connection, before) else 0
    return Needs(
        until if compared is None else min(until, compared),
        serving,
        None if serving is None else read_place(connection, serving, "drift"),
        None if serving is None else _day_of_harm(connection, serving),
        wall_now - horizon - (usual_delay(arrived_delays(connection, now - LONGEST)) or timedelta()),
        before - _LONGEST_WAIT,
    )


def _day_of_harm(connection: Connection, version: int) -> date | None:
    try:
        parts = read_parts(connection, version, "harm", ["watch"])
    except DamagedRow:
        return None
    watch = parts and parts[1]["watch"]
    last = watch.get("last_day") if isinstance(watch, dict) else None
    return date(1970, 1, 1) + timedelta(days=last) if isinstance(last, int) else None


def removable(connection: Connection, received: Mapping[int, datetime | None], needs: Needs) -> Removable:
    """Return which of some requests may be removed.

    Args:
        connection: on the database.
        received: when each request was received (UTC); None if its time cannot be read.
        needs: what still needs answers.
    """
    which, parameters = among(connection, "p.input_id", [*received])
    asked = (
        f"SELECT {_COLUMNS} FROM predictions AS p LEFT JOIN outcomes AS o ON o.prediction_id = p.prediction_id"  # noqa: S608
        f" WHERE {which} ORDER BY p.prediction_id"
    )
    rows = [_Logged(*row) for row in fetched(connection, asked, parameters)]
    rows = [row._replace(asked_at=_moment(row.asked_at)) for row in rows]
    read = [row for row in rows if row.prediction_id <= needs.until]
    kept = {row.input_id for row in rows if row.prediction_id > needs.until}
    kept |= {row.input_id for row in read if _is_young(received[row.input_id], needs) and _is_needed(row, needs)}
    kept |= _with_sessions_of_others(connection, rows, kept)
    gone = [row.prediction_id for row in rows if row.input_id not in kept]
    # Numbers of requests and of their answers have nearly the same order.
    return Removable([one for one in received if one not in kept], gone, not rows or bool(read))


def _is_young(received_at: datetime | None, needs: Needs) -> bool:
    return received_at is not None and received_at >= needs.before


def _is_needed(row: _Logged, needs: Needs) -> bool:
    """Return whether the outcome of an answer may still come, or a monitor has not counted it."""
    if row.asked_at is None:
        return False
    if row.status == WAITING and row.asked_at > needs.waits:
        return True
    if row.model_version != needs.serving:
        return False
    if needs.drift is not None and row.prediction_id > needs.drift:
        return True
    return row.status == MATCHED and needs.harm is not None and row.asked_at.date() > needs.harm


def _with_sessions_of_others(connection: Connection, rows: Sequence[_Logged], kept: set[int]) -> set[int]:
    """Return the requests whose answers supersede answers that stay."""
    requests = {row.prediction_id: row.input_id for row in rows}
    sessions = sorted({row.session_id for row in rows if row.session_id is not None})
    which, parameters = among(connection, "session_id", sessions)
    asked = f"SELECT prediction_id, superseded_by FROM outcomes WHERE {which} AND superseded_by IS NOT NULL"  # noqa: S608
    pairs = [(one, by) for one, by in fetched(connection, asked, parameters) if by in requests] if sessions else []
    found: set[int] = set()
    while True:
        stay = kept | found
        # An older answer stays if it is not among these requests, or if its request stays.
        more = {requests[by] for one, by in pairs if one not in requests or requests[one] in stay} - stay
        if not more:
            return found
        found |= more


def _moment(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
