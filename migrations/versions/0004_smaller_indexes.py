"""The indexes of predictions have only the rows that are looked for by them.

Of a training's rows no request is known, and requests' are not looked for by their version: each row was in two
indexes, and is in one. To build them anew takes about a second for each million predictions.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OF_TRAINING = sa.text("source = 'train'")
OF_A_REQUEST = sa.text("input_id IS NOT NULL")


def upgrade() -> None:
    op.drop_index("ix_predictions_source_model_version", "predictions")
    op.drop_index("ix_predictions_input_id", "predictions")
    op.create_index(
        "ix_predictions_model_version",
        "predictions",
        ["model_version"],
        sqlite_where=OF_TRAINING,
        postgresql_where=OF_TRAINING,
    )
    op.create_index(
        "ix_predictions_input_id",
        "predictions",
        ["input_id"],
        sqlite_where=OF_A_REQUEST,
        postgresql_where=OF_A_REQUEST,
    )


def downgrade() -> None:
    op.drop_index("ix_predictions_input_id", "predictions")
    op.drop_index("ix_predictions_model_version", "predictions")
    op.create_index("ix_predictions_input_id", "predictions", ["input_id"])
    op.create_index("ix_predictions_source_model_version", "predictions", ["source", "model_version"])
