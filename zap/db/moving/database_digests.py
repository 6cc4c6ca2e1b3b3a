"""The digests of all tables of a database, read once."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, inspect

from zap.db.moving.moved_tables import moved_tables
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.table_rows import TableRows, Treat
from zap.progress import Progress

# How often progress is reported, in rows.
_REPORT_EVERY = 5000


def tables_there(connection: Connection) -> list[Table]:
    """Return the tables that are copied, as far as the database has them."""
    return moved_tables(inspect(connection).get_table_names())


def database_digests(
    connection: Connection, tables: Sequence[Table], treat: Treat, progress: Progress, what: str
) -> dict[str, TableDigest]:
    """Return the digest of each table, after one look at every value.

    Args:
        connection: of `reading`.
        tables: the tables, which the database has.
        treat: called with each odd value.
        progress: called with `what` (in rows).
        what: the name of the phase.
    """
    rows_of = {table.name: TableRows(connection, table, treat) for table in tables}
    total, done = sum(rows.count() for rows in rows_of.values()), 0
    progress(what, 0, total)
    digests = {}
    for name, rows in rows_of.items():
        digest = digests[name] = TableDigest()
        for row in rows.after():
            digest.add(row)
            done += 1
            if done % _REPORT_EVERY == 0:
                progress(what, done, total)
    progress(what, total, total)
    return digests
