"""The answers that sessions followed, as their reports name them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlmodel import col

from zap.db.history.drivers import named_drivers
from zap.db.history.history_rows import SESSIONS, Row, in_parts
from zap.db.monitoring.removals import read_removed_before
from zap.db.monitoring_tables import SessionPrediction
from zap.db.tables import InferenceInput, Prediction
from zap.formats.json_body import error_at
from zap.formats.logged_request import driver_of
from zap.formats.session_report import PREDICTION_ID, SESSION_ID, USER_ID, SessionReport

_SESSION = col(SessionPrediction.session_id)


def wrong_answers(
    connection: Connection, sessions: Sequence[SessionReport], rows: Sequence[Row], before: Sequence[Row | None]
) -> Iterator[dict[str, str]]:
    """Yield an error for each reported session that names no answer to a request, or an answer to another driver.

    Args:
        connection: on a database at head.
        sessions: the reported sessions.
        rows: their new values.
        before: their stored values; None for a new session.
    """
    asked = sorted({one.prediction_id for one in sessions if one.prediction_id is not None})
    if not asked:
        return
    logged = _logged(connection, asked)
    removed_before = read_removed_before(connection)
    # A report may be sent again after the answer that it names was removed.
    named = _named(connection, before) if removed_before is not None and len(logged) < len(asked) else {}
    names = {driver for text in logged.values() if text is not None and (driver := driver_of(text)) is not None}
    plain = named_drivers(connection, names)
    for session, row, stored in zip(sessions, rows, before, strict=True):
        number = session.prediction_id
        if number is None:
            continue
        place: tuple[str | int, ...] = (*session.place, PREDICTION_ID)
        text = logged.get(number)
        if number not in logged:
            if stored is not None and named.get(stored[SESSION_ID]) == number:
                continue
            hint = "send the number in the answer"
            if removed_before is not None:
                hint += f"; requests from before {removed_before:%Y-%m-%d} were removed, and no report can name them"
            yield error_at(place, f"is {number}, and there is no such prediction; {hint}")
        elif text is None:
            yield error_at(place, f"is {number}, which is a prediction of a training, and no answer to a request")
        else:
            driver = driver_of(text)
            whose = row[USER_ID] or (stored or {}).get(USER_ID)
            if driver is not None and whose is not None and plain.get(driver, driver) != whose:
                yield error_at(place, f"is {number}, which is an answer to another driver")


def name_answers(connection: Connection, names: Mapping[int, int | None]) -> set[int]:
    """Store which answers sessions followed. Return the sessions whose answer has changed.

    Args:
        connection: a transaction that writes.
        names: the answer of each session; None if it followed no answer.
    """
    stored = _names_of(connection, [*names])
    changed = {session_id for session_id, name in names.items() if stored.get(session_id) != name}
    remove_names(connection, sorted(changed & stored.keys()))
    new: list[dict[str, Any]] = [
        {"session_id": one, "prediction_id": names[one]} for one in sorted(changed) if names[one] is not None
    ]
    if new:
        connection.execute(insert(SessionPrediction), new)
    return changed


def remove_names(connection: Connection, session_ids: Sequence[int]) -> None:
    """Remove the answers that sessions followed."""
    for some in in_parts(session_ids):
        connection.execute(delete(SessionPrediction).where(_SESSION.in_(some)))


def log_as_changed(connection: Connection, session_ids: Sequence[int]) -> None:
    """Let the triggers log sessions as changed although none of their values has changed."""
    for some in in_parts(session_ids):
        same = update(SESSIONS).where(SESSIONS.c.session_id.in_(some))
        connection.execute(same.values(session_id=SESSIONS.c.session_id))


def _named(connection: Connection, before: Sequence[Row | None]) -> dict[int, int]:
    """Return the answers that stored sessions followed, by the session."""
    return _names_of(connection, [row[SESSION_ID] for row in before if row is not None])


def _names_of(connection: Connection, session_ids: Sequence[int]) -> dict[int, int]:
    names: dict[int, int] = {}
    for some in in_parts(session_ids):
        found = connection.execute(select(SessionPrediction.__table__).where(_SESSION.in_(some)))  # type: ignore[attr-defined]
        names |= {row.session_id: row.prediction_id for row in found}
    return names


def _logged(connection: Connection, prediction_ids: Sequence[int]) -> dict[int, str | None]:
    """Return the request of each of these predictions; None for a prediction of a training."""
    columns = select(col(Prediction.prediction_id), col(Prediction.source), col(InferenceInput.input_data_json))
    asked = columns.join(InferenceInput, col(Prediction.input_id) == col(InferenceInput.input_id), isouter=True)
    return {
        number: None if source == "train" else text or ""
        for some in in_parts(prediction_ids)
        for number, source, text in connection.execute(asked.where(col(Prediction.prediction_id).in_(some)))
    }
