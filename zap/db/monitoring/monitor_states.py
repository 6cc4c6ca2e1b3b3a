"""What the monitors of drift and harm remember of each version."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, case, column, delete, func, insert, select, true
from sqlmodel import col

from zap.db.monitoring_tables import MonitorState
from zap.db.stored_json import ANY, Damaged, StoredJson, is_object, whole
from zap.db.tables import utc_now
from zap.sentences import say

Kind = Literal["drift", "harm"]
KINDS: tuple[Kind, ...] = ("drift", "harm")


class Remembered(NamedTuple):
    """What a monitor of one version compares with, and what it remembers.

    Attributes:
        reference: computed once for a version.
        state: None before the first look.
        prediction_id: the last answer that the state has counted; None if it counts days.
    """

    reference: dict[str, Any]
    state: dict[str, Any] | None = None
    prediction_id: int | None = None


def read_monitor(connection: Connection, version: int, kind: Kind) -> Remembered | None:
    """Return what a monitor remembers; None if the version has no reference yet.

    Raises:
        DamagedRow: it cannot be read.
    """
    columns = col(MonitorState.reference), col(MonitorState.state), col(MonitorState.prediction_id)
    row = connection.execute(select(*columns).where(_this(version, kind))).one_or_none()
    if row is None or row[0] is None:
        return None
    for value in (row.reference, row.state):
        whole(value, what_it_remembers(version, kind))
    return Remembered(*row)


def read_parts(
    connection: Connection, version: int, kind: Kind, parts: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the reference of a monitor, and some parts of its state; None if the version has no reference yet.

    The whole state has megabytes. The database takes the parts out of it, so that no thread of this process decodes
    them, and all parts at once, because PostgreSQL reads the whole text for each `->`.

    Args:
        connection: on a database at head.
        version: the model version.
        kind: the monitor.
        parts: the names of the parts. A part is None before the first look, and if an older zap has stored the state.

    Raises:
        DamagedRow: the reference or the state cannot be read.
    """
    state = col(MonitorState.state)
    stored = select(col(MonitorState.reference), is_object(state)).where(_this(version, kind))
    row = connection.execute(stored).one_or_none()
    if row is None or row[0] is None:
        return None
    # NULL is a state before the first look.
    whole(Damaged() if row[1] is False else row[0], what_it_remembers(version, kind))
    # Functions of JSON refuse what is no object.
    part = func.json_each(case((is_object(state), state))).table_valued(column("key"), column("value", StoredJson(ANY)))
    asked = select(part.c.key, part.c.value).select_from(MonitorState).join(part, true())
    rows = connection.execute(asked.where(_this(version, kind), part.c.key.in_(parts))).all()
    return row[0], dict.fromkeys(parts) | {one.key: one.value for one in rows}


def read_revision(connection: Connection, version: int, kind: Kind) -> datetime | None:
    """Return when the reference and the state of a monitor were stored; None if the version has no reference yet."""
    stored = select(col(MonitorState.updated_at)).where(_this(version, kind), col(MonitorState.reference).is_not(None))
    revision: datetime | None = connection.scalar(stored)
    return revision


def what_it_remembers(version: int, kind: Kind) -> str:
    """Return the words for what a monitor remembers, as the beginning of a sentence."""
    if kind == "drift":
        return say("what the monitor of drift remembers of version {version}", version=version)
    return say("what the monitor of harm remembers of version {version}", version=version)


class Place(NamedTuple):
    """Which state of a monitor is stored.

    Attributes:
        prediction_id: the last answer that it has counted; None if it has counted none.
        updated_at: when it was stored. An erasure changes a state without counting an answer.
    """

    prediction_id: int | None
    updated_at: datetime


def read_place(connection: Connection, version: int, kind: Kind) -> int | None:
    """Return the last answer that the stored state of a monitor has counted; None without a state."""
    place: int | None = connection.scalar(select(col(MonitorState.prediction_id)).where(_this(version, kind)))
    return place


def read_stored(connection: Connection, version: int, kind: Kind) -> Place | None:
    """Return which state of a monitor is stored; None if the version has no reference yet."""
    columns = col(MonitorState.prediction_id), col(MonitorState.updated_at)
    row = connection.execute(select(*columns).where(_this(version, kind))).one_or_none()
    return None if row is None else Place(*row)


def has_references(connection: Connection, version: int) -> bool:
    """Return whether the monitors of both kinds have their references. What they remember is not read."""
    known = select(col(MonitorState.kind)).where(col(MonitorState.model_version) == version)
    return set(connection.scalars(known.where(col(MonitorState.reference).is_not(None)))) == set(KINDS)


def store_monitor(connection: Connection, version: int, kind: Kind, remembered: Remembered) -> Place:
    """Store what a monitor remembers, in place of what it remembered before. Return what `read_stored` returns then.

    Args:
        connection: a transaction that writes.
        version: the model version.
        kind: the monitor.
        remembered: its reference and its state.
    """
    connection.execute(delete(MonitorState).where(_this(version, kind)))
    now = utc_now()
    row = {"model_version": version, "kind": kind, "updated_at": now, **remembered._asdict()}
    connection.execute(insert(MonitorState), row)
    return Place(remembered.prediction_id, now)


def store_references(connection: Connection, version: int, references: Mapping[Kind, dict[str, Any]]) -> None:
    """Store the references of a version. If another process has stored one meanwhile, it stays, with its state."""
    for kind, reference in references.items():
        if read_monitor(connection, version, kind) is None:
            store_monitor(connection, version, kind, Remembered(reference))


def _this(version: int, kind: Kind) -> Any:
    return (col(MonitorState.model_version) == version) & (col(MonitorState.kind) == kind)
