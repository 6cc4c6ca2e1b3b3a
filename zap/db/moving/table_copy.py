"""The copy of one table: make the table of the target equal to the table of the source, and compare both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, Engine, Table

from zap.db.moving.connections import reader, snapshot, writing
from zap.db.moving.differences import paired
from zap.db.moving.row_writes import PORTION, insert_rows, remove_rows
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.table_rows import Key, Row, TableRows, Treat
from zap.errors import UnsoundDatabase


class Place(NamedTuple):
    """A place in a table up to which source and target are known to be equal.

    Attributes:
        key: of the last row; None before the first row.
        digest: of the rows up to this key.
    """

    key: Key | None
    digest: TableDigest


class CopiedTable(NamedTuple):
    """The result of copying one table to the target.

    Attributes:
        table: its name.
        rows: how many rows both tables have.
        digest: the hash of the rows of both.
        added: how many rows were added.
        removed: how many rows were removed; a changed row was removed and added.
        settled: a place that later copies may begin at, if the rows of the table never change.
    """

    table: str
    rows: int
    digest: str
    added: int
    removed: int
    settled: Place


class Target(NamedTuple):
    """The two engines of the database into which rows are copied.

    Attributes:
        read: of `reader`.
        write: of `writing`.
    """

    read: Engine
    write: Engine


@contextmanager
def copying_into(url: str) -> Iterator[Target]:
    """Yield the engines of a target."""
    with reader(url) as read, writing(url) as write:
        yield Target(read, write)


class TableCopy:
    """The copy of one table.

    Rows that are absent or different in the source are removed first, so that no unique index refuses an added row.
    Each portion of rows is committed, and a copy that was interrupted goes on with the rows that are missing.

    Args:
        source: a snapshot of the source.
        target: reads and writes the target, to which no other program writes.
        table: the table.
        treat: called with each odd value.
        copied: called with the number of rows up to which the copy has come.
    """

    def __init__(
        self, source: Connection, target: Target, table: Table, treat: Treat, copied: Callable[[int], object]
    ) -> None:
        self._source = TableRows(source, table, treat)
        self._target = target
        self._table = table
        self._treat = treat
        self._copied = copied
        self._added = self._removed = 0

    def run(self, begin: Place) -> CopiedTable:
        """Make both tables equal, and read the target again to compare them.

        Args:
            begin: a place up to which both are known to be equal.

        Raises:
            UnsoundDatabase: a value cannot be copied, or the tables differ after the copy.
        """
        begin = self._without_wrong_rows(begin)
        source = self._with_missing_rows(begin)
        target, settled = self._read_again(begin)
        if target != source:
            raise UnsoundDatabase(
                f"{self._table.name}: the source has {source.rows:,} rows with the hash {source.shown[:16]}, and the"
                f" copy has {target.rows:,} rows with the hash {target.shown[:16]}. Another program may have written"
                " to the copy: end it, and copy again"
            )
        return CopiedTable(self._table.name, source.rows, source.shown, self._added, self._removed, settled)

    def _without_wrong_rows(self, begin: Place) -> Place:
        """Remove the rows of the target that the source does not have. Return where the first difference is."""
        digest, last, first = begin.digest.copy(), begin.key, None
        wrong: list[Key] = []
        with snapshot(self._target.read) as target:
            stored = TableRows(target, self._table, self._treat).after(begin.key)
            for ours, theirs in paired(self._source.after(begin.key), stored, self._source.key_of):
                if ours != theirs:
                    first = first or Place(last, digest.copy())
                    if theirs is not None:
                        wrong.append(self._source.key_of(theirs))
                elif first is None and ours is not None:
                    digest.add(ours)
                    last = self._source.key_of(ours)
                if len(wrong) >= PORTION:
                    self._remove(wrong)
        self._remove(wrong)
        return first or Place(last, digest)

    def _with_missing_rows(self, begin: Place) -> TableDigest:
        """Add the rows that the target lacks after a place. Return the digest of the source."""
        digest, last = begin.digest.copy(), begin.key
        missing: list[Row] = []
        with snapshot(self._target.read) as target:
            stored = TableRows(target, self._table, self._treat).after(begin.key)
            for ours, theirs in paired(self._source.after(begin.key), stored, self._source.key_of):
                if ours is None:
                    continue
                digest.add(ours)
                last = self._source.key_of(ours)
                if theirs is None:
                    missing.append(ours)
                if len(missing) >= self._portion():
                    self._add(missing, digest.rows)
        self._add(missing, digest.rows)
        # The target is not read any more: SQLite could not empty the WAL of the target meanwhile.
        rest = self._source.after(last)
        while some := [*islice(rest, self._portion())]:
            for row in some:
                digest.add(row)
            self._add(some, digest.rows)
        return digest

    def _portion(self) -> int:
        return min(PORTION, self._source.portion)

    def _read_again(self, begin: Place) -> tuple[TableDigest, Place]:
        """Return the digest of the target, and a place at least a portion before its end."""
        digest, settled, next_settled = begin.digest.copy(), begin, begin
        with snapshot(self._target.read) as target:
            rows = TableRows(target, self._table, self._treat)
            for row in rows.after(begin.key):
                digest.add(row)
                if digest.rows % PORTION == 0:
                    settled, next_settled = next_settled, Place(rows.key_of(row), digest.copy())
        return digest, settled

    def _add(self, rows: list[Row], copied: int) -> None:
        if rows:
            with self._target.write.begin() as connection:
                insert_rows(connection, self._table, self._source.names, rows)
            self._added += len(rows)
            self._copied(copied)
            rows.clear()

    def _remove(self, keys: list[Key]) -> None:
        if keys:
            with self._target.write.begin() as connection:
                remove_rows(connection, self._table, keys)
            self._removed += len(keys)
            keys.clear()
