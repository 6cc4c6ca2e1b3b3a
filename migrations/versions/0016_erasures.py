"""Add the table of erasures, the ledger of the drivers that were erased.

A downgrade drops the table. Then a backup that is restored later brings erased drivers back.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
TABLE = "erasures"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's table or view has the name of the new table. Nothing is changed then."""
    inspector = sa.inspect(connection)
    taken = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    if TABLE in taken:
        raise CommandError(
            f"there is something called {TABLE} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    op.create_table(
        TABLE,
        sa.Column("erasure_id", ID, nullable=False),
        sa.Column("erased_at", STAMP, nullable=False),
        sa.Column("who", sa.String(), nullable=True),
        sa.Column("driver_hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("erasure_id", name="pk_erasures"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_erasures_driver_hash", TABLE, ["driver_hash"])


def downgrade() -> None:
    op.drop_index("ix_erasures_driver_hash", table_name=TABLE)
    op.drop_table(TABLE)
