"""Add the tables of keys and of the logins that stand for them.

A downgrade drops the tables: then no key but ZAP_API_KEY is accepted, and without ZAP_API_KEY every route is open.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
TABLES = ("api_keys", "key_days", "logins")


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's table or view has the name of a new table. Nothing is changed then."""
    inspector = sa.inspect(connection)
    taken = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    for table in TABLES:
        if table in taken:
            raise CommandError(
                f"there is something called {table} already, which zap needs for itself; nothing was changed."
                " Rename it, then upgrade again."
            )


def upgrade() -> None:
    look_first(op.get_bind())
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", STAMP, nullable=True),
        sa.Column("revoked_at", STAMP, nullable=True),
        sa.Column("replaced_by", sa.String(), nullable=True),
        sa.Column("requests_per_second", sa.Float(), nullable=True),
        sa.Column("batch_rows_per_day", ID, nullable=True),
        sa.Column("last_used_at", STAMP, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
    )
    op.create_table(
        "key_days",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("batch_rows", ID, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day", name="pk_key_days"),
    )
    op.create_table(
        "logins",
        sa.Column("login", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("expires_at", STAMP, nullable=False),
        sa.PrimaryKeyConstraint("login", name="pk_logins"),
    )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
