"""The row that was scored beside each prediction, and the searches for hyper-parameters.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
NAME = "tunings"


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
    op.add_column("predictions", sa.Column("features", sa.LargeBinary()))
    op.create_table(
        NAME,
        sa.Column("tuning_id", ID, nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("hyper_parameters", sa.JSON(none_as_null=True)),
        sa.Column("evidence", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("tuning_id", name="pk_tunings"),
        sqlite_autoincrement=True,
    )
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM model_versions")):
        report = context.config.attributes.get("report", context.config.print_stdout)
        report("the models that are there know nothing of drivers' histories and cannot serve any more: train once")


def downgrade() -> None:
    op.drop_table(NAME)
    op.drop_column("predictions", "features")
