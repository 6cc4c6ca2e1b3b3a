"""Add a table with the facts about driver and vehicle at the time of each session. Later changes leave them unchanged.

Stored sessions get no row, because nobody knows since when the stored facts about their drivers have been true. Another
import of their file adds the rows.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = "session_facts"


def look_first(connection: sa.Connection) -> None:
    """Refuse what is in the way, before anything is changed."""
    inspector = sa.inspect(connection)
    if NAME in {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}:
        raise CommandError(
            f"there is something called {NAME} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    op.create_table(
        NAME,
        sa.Column("session_id", ID, autoincrement=False, nullable=False),
        sa.Column("user_type", sa.String()),
        sa.Column("vehicle_model", sa.String()),
        sa.Column("battery_capacity_kwh", sa.Float()),
        sa.Column("vehicle_age_years", sa.Float()),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_facts"),
    )


def downgrade() -> None:
    op.drop_table(NAME)
