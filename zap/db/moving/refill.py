"""Fill a PostgreSQL database with the rows of a SQLite file, instead of its own rows, in one transaction."""

from collections.abc import Sequence
from itertools import islice

from sqlalchemy import Connection, Engine, Table

from zap.db.moving.connections import explained
from zap.db.moving.row_writes import insert_rows
from zap.db.moving.sequences import move_sequences, positions
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.table_rows import TableRows, Treat
from zap.db.triggers import drop_triggers
from zap.errors import UnsoundDatabase
from zap.progress import Progress


def refill(source: Connection, target: Engine, tables: Sequence[Table], treat: Treat, progress: Progress) -> None:
    """Replace all rows of the tables. Ids that the target has given are not given again.

    The triggers are missing afterwards: `zap.db.schema.upgrade` makes them again, and logs that any session may have
    changed.

    Args:
        source: a snapshot of a SQLite file at head.
        target: writes the target, a PostgreSQL database at head.
        tables: the tables, parents first.
        treat: called with each odd value.
        progress: called with "restoring" and the name of each table (in rows).

    Raises:
        DatabaseUnavailable: another connection uses the tables, or the database refuses the rows. Nothing was changed.
        UnsoundDatabase: the target differs afterwards. Nothing was changed.
    """
    quote = target.dialect.identifier_preparer.quote
    with explained(target.url), target.begin() as connection:
        drop_triggers(connection)
        connection.exec_driver_sql(f"TRUNCATE {', '.join(quote(table.name) for table in tables)}")
        for table in tables:
            digest = _fill(source, connection, table, treat, progress)
            stored = TableDigest()
            for row in TableRows(connection, table, treat).after():
                stored.add(row)
            if stored != digest:
                raise UnsoundDatabase(f"{table.name}: the restored rows differ from the rows of the backup")
        move_sequences(connection, tables, positions(source, tables))
    with explained(target.url), target.begin() as connection:
        # Without statistics, PostgreSQL would read whole tables at first.
        connection.exec_driver_sql("ANALYZE")


def _fill(source: Connection, target: Connection, table: Table, treat: Treat, progress: Progress) -> TableDigest:
    what, rows = f"restoring {table.name}", TableRows(source, table, treat)
    digest, total, left = TableDigest(), rows.count(), rows.after()
    if total:
        progress(what, 0, total)
    while some := [*islice(left, rows.portion)]:
        for row in some:
            digest.add(row)
        insert_rows(target, table, rows.names, some)
        progress(what, digest.rows, total)
    return digest
