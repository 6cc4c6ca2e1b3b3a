"""The tables that are copied and backed up, parents first."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Table, inspect
from sqlmodel import SQLModel

# The log of the last hour's changes of sessions. Its rows name transactions of one server, so another database begins
# a log of its own, whose first row says that any session may have changed.
_LEFT_OUT = frozenset({"session_changes"})
# Tables whose rows never change after they were added, with ids that grow. Rows may be removed.
LOGS = frozenset({"inference_inputs", "predictions"})
_REVISION = "alembic_version"


def moved_tables(there: Collection[str] | None = None) -> list[Table]:
    """Return the tables that are copied, parents first.

    Args:
        there: the names of the tables that the database has; a database of an older zap has fewer. None: all.
    """
    return [
        table
        for table in SQLModel.metadata.sorted_tables
        if table.name not in _LEFT_OUT and (there is None or table.name in there)
    ]


def tables_of_others(connection: Connection) -> list[str]:
    """Return the tables that zap did not make. They are not copied."""
    ours = {*SQLModel.metadata.tables, _REVISION}
    return sorted(name for name in inspect(connection).get_table_names() if name not in ours and name[:4] != "zap_")


def first_table_with_rows(connection: Connection, tables: Sequence[Table]) -> str | None:
    """Return a table of zap that has rows; None if there are no tables or no rows."""
    there = inspect(connection).get_table_names()
    quote = connection.dialect.identifier_preparer.quote
    for table in tables:
        asked = f"SELECT 1 FROM {quote(table.name)} LIMIT 1"  # noqa: S608
        if table.name in there and connection.exec_driver_sql(asked).first() is not None:
            return table.name
    return None


def is_numbered(table: Table) -> bool:
    """Return whether the database gives the rows of a table their ids."""
    return bool(table.dialect_options["sqlite"]["autoincrement"])
