"""What the monitors of drift and harm remember of each version."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, insert, select
from sqlmodel import col

from zap.db.monitoring_tables import MonitorState
from zap.db.stored_json import ANY, Damaged, is_object, part, whole
from zap.db.tables import utc_now

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
        whole(value, f"what the monitor of {kind} remembers of version {version}")
    return Remembered(*row)


def read_parts(
    connection: Connection, version: int, kind: Kind, parts: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the reference of a monitor, and some parts of its state; None if the version has no reference yet.

    The whole state has megabytes. The database takes the parts out of it, so that no thread of this process decodes
    them.

    Args:
        connection: on a database at head.
        version: the model version.
        kind: the monitor.
        parts: the names of the parts. A part is None before the first look, and if an older zap has stored the state.

    Raises:
        DamagedRow: the reference or the state cannot be read.
    """
    columns = (part(col(MonitorState.state), name, ANY) for name in parts)
    known = select(col(MonitorState.reference), is_object(col(MonitorState.state)), *columns)
    row = connection.execute(known.where(_this(version, kind))).one_or_none()
    if row is None or row[0] is None:
        return None
    # NULL is a state before the first look.
    whole(Damaged() if row[1] is False else row[0], f"what the monitor of {kind} remembers of version {version}")
    return row[0], dict(zip(parts, row[2:], strict=True))


def read_place(connection: Connection, version: int, kind: Kind) -> int | None:
    """Return the last answer that the stored state of a monitor has counted; None without a state."""
    place: int | None = connection.scalar(select(col(MonitorState.prediction_id)).where(_this(version, kind)))
    return place


def has_references(connection: Connection, version: int) -> bool:
    """Return whether the monitors of both kinds have their references. What they remember is not read."""
    known = select(col(MonitorState.kind)).where(col(MonitorState.model_version) == version)
    return set(connection.scalars(known.where(col(MonitorState.reference).is_not(None)))) == set(KINDS)


def store_monitor(connection: Connection, version: int, kind: Kind, remembered: Remembered) -> None:
    """Store what a monitor remembers, in place of what it remembered before.

    Args:
        connection: a transaction that writes.
        version: the model version.
        kind: the monitor.
        remembered: its reference and its state.
    """
    connection.execute(delete(MonitorState).where(_this(version, kind)))
    row = {"model_version": version, "kind": kind, "updated_at": utc_now(), **remembered._asdict()}
    connection.execute(insert(MonitorState), row)


def store_references(connection: Connection, version: int, references: Mapping[Kind, dict[str, Any]]) -> None:
    """Store the references of a version. If another process has stored one meanwhile, it stays, with its state."""
    for kind, reference in references.items():
        if read_monitor(connection, version, kind) is None:
            store_monitor(connection, version, kind, Remembered(reference))


def _this(version: int, kind: Kind) -> Any:
    return (col(MonitorState.model_version) == version) & (col(MonitorState.kind) == kind)
