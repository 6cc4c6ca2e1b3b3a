"""Add the tables of logins: which ones were ended, and from where wrong keys come.

A downgrade drops both tables. Then logins that were ended are valid again until their cookies expire.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
TABLES = ("ended_logins", "wrong_keys")


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
        "ended_logins",
        sa.Column("login", sa.String(), nullable=False),
        sa.Column("expires_at", STAMP, nullable=False),
        sa.PrimaryKeyConstraint("login", name="pk_ended_logins"),
    )
    op.create_table(
        "wrong_keys",
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("since", STAMP, nullable=False),
        sa.Column("count", ID, nullable=False),
        sa.PrimaryKeyConstraint("client", name="pk_wrong_keys"),
    )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
