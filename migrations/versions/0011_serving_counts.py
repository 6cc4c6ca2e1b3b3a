"""Add the table of what server processes answered in each minute, with their times in buckets.

A downgrade drops the table, and with it the figures of serving of the last 35 days.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON(none_as_null=True)
TABLE = "serving_counts"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's table or view has the name of the new table. Nothing is changed then."""
    inspector = sa.inspect(connection)
    if TABLE in {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}:
        raise CommandError(
            f"there is something called {TABLE} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    op.create_table(
        TABLE,
        sa.Column("minutes", ID, autoincrement=False, nullable=False),
        sa.Column("begins_at", STAMP, nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("number", ID, autoincrement=False, nullable=False),
        sa.Column("answered", ID, nullable=False),
        sa.Column("refused", ID, nullable=False),
        sa.Column("failed", ID, nullable=False),
        sa.Column("nanoseconds", ID, nullable=False),
        sa.Column("buckets", JSON, nullable=False),
        sa.CheckConstraint("minutes IN (1, 10, 60)", name=op.f("ck_serving_counts_minutes")),
        sa.PrimaryKeyConstraint("minutes", "begins_at", "subject", "process", "number", name="pk_serving_counts"),
    )


def downgrade() -> None:
    op.drop_table(TABLE)
