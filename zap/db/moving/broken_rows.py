"""Rows that contradict other rows: rows without their parents, ids that will be given twice, changed artefacts."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, ForeignKeyConstraint, Table, func, select

from zap.db.moving.connections import explained
from zap.db.moving.moved_tables import is_numbered
from zap.db.moving.sequences import highest_id, positions
from zap.db.tables import ModelVersion

# How many rows a finding names.
SHOWN = 10
_VERSIONS: Table = ModelVersion.__table__  # type: ignore[attr-defined]


class Finding(NamedTuple):
    """Something that is wrong in one table.

    Attributes:
        table: the name of the table.
        what: what is wrong.
        rows: in how many rows.
        examples: the first rows.
    """

    table: str
    what: str
    rows: int
    examples: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Return the finding in one sentence."""
        more = f" and {self.rows - len(self.examples):,} more" if self.rows > len(self.examples) else ""
        shown = f": {'; '.join(self.examples)}{more}" if self.examples else ""
        return f"{self.table}: {self.what}{shown}"


def rows_without_parents(connection: Connection, tables: Sequence[Table]) -> Iterator[Finding]:
    """Yield the foreign keys that name missing rows."""
    for table in tables:
        for foreign in sorted(table.foreign_key_constraints, key=lambda one: str(one.name)):
            found = _orphans(connection, table, foreign)
            if found is not None:
                yield found


def sequences_behind(connection: Connection, tables: Sequence[Table]) -> Iterator[Finding]:
    """Yield the tables whose next id is taken already."""
    # The rows are read first: a row that is added meanwhile moves the sequence only.
    highest = {table.name: highest_id(connection, table) for table in tables if is_numbered(table)}
    for name, position in positions(connection, tables).items():
        if position < highest[name]:
            what = f"the next id is {position + 1}, but there is a row with the id {highest[name]}"
            yield Finding(name, what, 1, ())


def changed_artefacts(connection: Connection) -> Iterator[Finding]:
    """Yield the model versions whose bytes do not have their SHA-256."""
    with explained(connection.engine.url):
        numbers = connection.scalars(select(_VERSIONS.c.model_version).order_by(_VERSIONS.c.model_version)).all()
        changed = [number for number in numbers if _is_changed(connection, number)]
    if changed:
        what = "the bytes of the version do not have their SHA-256"
        yield Finding(_VERSIONS.name, what, len(changed), tuple(f"model_version {one}" for one in changed[:SHOWN]))


def _is_changed(connection: Connection, number: int) -> bool:
    asked = select(_VERSIONS.c.artefact, _VERSIONS.c.sha256).where(_VERSIONS.c.model_version == number)
    artefact, sha256 = connection.execute(asked).one()
    return artefact is not None and hashlib.sha256(artefact).hexdigest() != sha256


def _orphans(connection: Connection, table: Table, foreign: ForeignKeyConstraint) -> Finding | None:
    (element,) = foreign.elements
    child, parent = element.parent, element.column.table.alias("parent")
    missing = ~select(parent.c[element.column.name]).where(parent.c[element.column.name] == child).exists()
    orphans = select(*table.primary_key.columns).where(child.is_not(None), missing)
    with explained(connection.engine.url):
        first = connection.execute(orphans.order_by(*table.primary_key.columns).limit(SHOWN)).all()
        if not first:
            return None
        count = connection.scalar(select(func.count()).select_from(orphans.subquery())) or 0
    what = f"{child.name} names a row of {element.column.table.name} that does not exist"
    return Finding(table.name, what, count, tuple(_named(table, row) for row in first))


def _named(table: Table, row: Any) -> str:
    return ", ".join(f"{column.name} {value}" for column, value in zip(table.primary_key.columns, row, strict=True))
