"""Sessions may have a text as their id: session_text_ids has the number that ChargingSessions has for each text.

No stored session has such an id yet. A downgrade drops the table: the sessions stay with their numbers, and a later
report with one of the texts adds a new session.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = "session_text_ids"
INDEX = "ix_session_text_ids_session_id"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's table or view has the name of the new table. Nothing is changed then."""
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
        sa.Column("text_id", sa.String(), nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("text_id", name=f"pk_{NAME}"),
    )
    op.create_index(INDEX, NAME, ["session_id"], unique=True)


def downgrade() -> None:
    op.drop_index(INDEX, NAME)
    op.drop_table(NAME)
