"""Add to `follower` from before which moment requests were removed, and what a running removal has removed.

A downgrade drops both columns. The daily sums of removed requests stay, but `zap follow --from-start` of an older zap
would remove them.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.add_column("follower", sa.Column("removed_before", STAMP))
    op.add_column("follower", sa.Column("removing", JSON))


def downgrade() -> None:
    op.drop_column("follower", "removing")
    op.drop_column("follower", "removed_before")
