"""ChargingSessions has an index of its charger types: zap finds the few types of a large history without reading it.

Building the index takes about a second for each million sessions. On PostgreSQL others can read and write meanwhile.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE = "ChargingSessions"
COLUMNS = ["charger_type"]
INDEX = "ix_ChargingSessions_charger_type"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another index has the name of the new index. Nothing is changed then."""
    if _columns(connection) not in (None, COLUMNS):
        raise CommandError(
            f"there is an index called {INDEX} already, which is not the one that zap makes; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    if op.get_bind().dialect.name == "sqlite":
        op.create_index(INDEX, TABLE, COLUMNS, if_not_exists=True)
        return
    with op.get_context().autocommit_block():
        # A build that was interrupted leaves an index that PostgreSQL does not use.
        valid = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        if op.get_bind().scalar(valid, {"name": f'"{INDEX}"'}) is False:
            op.drop_index(INDEX, TABLE, postgresql_concurrently=True)
        op.create_index(INDEX, TABLE, COLUMNS, postgresql_concurrently=True, if_not_exists=True)


def downgrade() -> None:
    op.drop_index(INDEX, TABLE, if_exists=True)


def _columns(connection: sa.Connection) -> list[str] | None:
    """Return the columns of the index with the name of the new index, or None without such an index."""
    if connection.dialect.name == "sqlite":
        there = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND lower(name) = lower(:name)"
        columns = "SELECT name FROM pragma_index_info(:name)"
        name = INDEX
    else:
        there = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name)"
        columns = (
            "SELECT attname::text FROM pg_attribute JOIN pg_index ON attrelid = indexrelid"
            " WHERE indexrelid = to_regclass(:name) ORDER BY attnum"
        )
        name = f'"{INDEX}"'
    if connection.scalar(sa.text(there), {"name": name}) is None:
        return None
    return list(connection.scalars(sa.text(columns), {"name": name}))
