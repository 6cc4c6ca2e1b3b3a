"""Add the audit: who changed what, as a chain of hashes. Triggers refuse every change of its rows.

A downgrade drops both tables, with all rows.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
TABLES = ("audit", "audit_head")
FUNCTION = "zap_refuse_audit_change"
TRIGGER = "zap_audit_changed"
_REFUSE = "SELECT RAISE(ABORT, 'rows of audit are only added, never changed or removed')"
# INSERT OR REPLACE removes a row without firing the trigger of DELETE.
SQLITE = {
    "zap_audit_deleted": "BEFORE DELETE ON audit",
    "zap_audit_replaced": "BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE audit_id = NEW.audit_id)",
    "zap_audit_updated": "BEFORE UPDATE ON audit",
}
BODY = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of audit are only added, never changed or removed';
END $$
"""


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
        "audit",
        sa.Column("audit_id", ID, autoincrement=False, nullable=False),
        sa.Column("happened_at", STAMP, nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("previous_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit"),
    )
    op.create_index("ix_audit_action_audit_id", "audit", ["action", "audit_id"])
    op.create_table(
        "audit_head",
        sa.Column("head_id", ID, autoincrement=False, nullable=False),
        sa.Column("count", ID, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", name="pk_audit_head"),
    )
    make_triggers(op.get_bind())


def downgrade() -> None:
    # The triggers go with the table.
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}()")


def make_triggers(connection: sa.Connection) -> None:
    """Make the triggers, also instead of earlier ones. A later zap calls this too, if some are missing."""
    if connection.dialect.name == "sqlite":
        for name, event in SQLITE.items():
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE TRIGGER {name} {event} BEGIN {_REFUSE}; END")
        return
    schema = connection.scalar(
        sa.text("SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE pg_class.oid = to_regclass('audit')")
    )  # fmt: skip
    connection.exec_driver_sql(BODY.format(function=f"{schema}.{FUNCTION}"))
    connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {TRIGGER} ON {schema}.audit")
    connection.exec_driver_sql(
        f"CREATE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.audit"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {schema}.{FUNCTION}()"
    )
    # Without it, a program that works as a replica would not fire the trigger.
    connection.exec_driver_sql(f"ALTER TABLE {schema}.audit ENABLE ALWAYS TRIGGER {TRIGGER}")
