"""The oldest requests of the log, and the removal of requests with all that belongs to them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, Engine, select, text
from sqlmodel import col

from zap.db.monitoring.given_rows import among, fetched
from zap.db.tables import InferenceInput

# The tables that have rows of a request, children first. The trials are given besides.
_OF_A_REQUEST = (("outcomes", "prediction_id"), ("predictions", "prediction_id"), ("inference_inputs", "input_id"))
_MAY_REMOVE = text(
    "SELECT bool_and(has_table_privilege(removed, 'DELETE'))"
    " FROM unnest(ARRAY['inference_inputs', 'predictions']) AS removed"
)


class OldRequest(NamedTuple):
    """A request that is old enough to be removed.

    Attributes:
        input_id: its number.
        received_at: when it was received (UTC); None if its time cannot be read.
    """

    input_id: int
    received_at: datetime | None


class OldRequests(NamedTuple):
    """Some of the oldest requests.

    Attributes:
        requests: the ones that are old enough.
        last: the number of the last request that was read; None if there are no more old requests.
    """

    requests: list[OldRequest]
    last: int | None


def may_remove(engine: Engine) -> bool:
    """Return whether the role of an engine may remove requests. A role that only predicts may not."""
    if engine.dialect.name == "sqlite":
        return True
    with engine.connect() as connection:
        return bool(connection.scalar(_MAY_REMOVE))


def oldest_requests(connection: Connection, after: int, before: datetime, most: int) -> OldRequests:
    """Return the requests after a request that were received before a moment.

    Numbers and times have nearly the same order: the search ends at the first portion without an old request. A time
    that cannot be read is as old as the requests after it.

    Args:
        connection: on the database.
        after: the number of the request.
        before: the moment (UTC).
        most: the most requests to read.
    """
    number = col(InferenceInput.input_id)
    asked = select(number, col(InferenceInput.request_timestamp)).where(number > after).order_by(number).limit(most)
    rows = [OldRequest(one, _in_utc(at)) for one, at in connection.execute(asked)]
    known = [place for place, row in enumerate(rows) if row.received_at is not None and row.received_at < before]
    if not known:
        return OldRequests([], None)
    old = [row for row in rows[: known[-1] + 1] if row.received_at is None or row.received_at < before]
    return OldRequests(old, rows[-1].input_id if len(rows) == most else None)


def remove_requests(connection: Connection, input_ids: Sequence[int], prediction_ids: Sequence[int]) -> dict[str, int]:
    """Remove requests, their answers, the outcomes, and what challengers answered. Return the rows of each table.

    Args:
        connection: a transaction that writes.
        input_ids: the requests.
        prediction_ids: all answers to them, in order.
    """
    ids = {"prediction_id": prediction_ids, "input_id": input_ids}
    removed = {"trial_predictions": _remove_answers_of_trials(connection, prediction_ids)}
    for table, key in _OF_A_REQUEST:
        which, parameters = among(connection, key, ids[key])
        removed[table] = connection.exec_driver_sql(f"DELETE FROM {table} WHERE {which}", parameters).rowcount  # noqa: S608
    return removed


def _remove_answers_of_trials(connection: Connection, prediction_ids: Sequence[int]) -> int:
    """Remove the answers of challengers. Their key begins with the trial, so the trials are found first."""
    if not prediction_ids:
        return 0
    some = f"prediction_id BETWEEN {prediction_ids[0]:d} AND {prediction_ids[-1]:d}"
    has_some = f"EXISTS (SELECT 1 FROM trial_predictions AS p WHERE p.trial_id = t.trial_id AND p.{some})"  # noqa: S608
    removed = 0
    for (trial_id,) in fetched(connection, f"SELECT trial_id FROM trials AS t WHERE {has_some}"):  # noqa: S608
        which, parameters = among(connection, "prediction_id", prediction_ids)
        statement = f"DELETE FROM trial_predictions WHERE trial_id = {trial_id:d} AND {which}"  # noqa: S608
        removed += connection.exec_driver_sql(statement, parameters).rowcount
    return removed


def _in_utc(moment: datetime | None) -> datetime | None:
    """Return a moment with its zone. A stamp that is older than zap has none."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
