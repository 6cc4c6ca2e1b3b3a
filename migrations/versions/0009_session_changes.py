"""Triggers log each change of ChargingSessions, by any program, in session_changes; starts have an index.

So every server notices a change within a moment without reading the history again. Sessions that begin more than 60
days before today cost nothing when they are added: zap keeps only the sessions of the last two months in memory.

Building the index takes about a second for each million sessions. On PostgreSQL others can read and write meanwhile.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
TABLE = "ChargingSessions"
COLUMNS = ["charging_start_time"]
INDEX = "ix_ChargingSessions_charging_start_time"
NAME = "session_changes"
TRANSACTIONS = "ix_session_changes_transaction_id"
# On SQLite no row is in this index, because transaction_id is NULL there.
OF_A_TRANSACTION = sa.text("transaction_id IS NOT NULL")
FUNCTION = "zap_log_session_changes"
DAYS = 60

# SQLite: the name of each trigger, its event, and the values of its rows. A statement with OR REPLACE removes the row
# whose id it takes, and no trigger for DELETE sees this: the two triggers before the statement log this row.
_NEW = "VALUES (NEW.session_id, NEW.user_id, NEW.charging_start_time, {now})"
_OLD = "VALUES (OLD.session_id, OLD.user_id, OLD.charging_start_time, {now})"
_TAKEN = (
    'SELECT session_id, user_id, charging_start_time, {now} FROM "ChargingSessions" WHERE session_id = NEW.session_id'
)
_MOVED = (
    "SELECT OLD.session_id, OLD.user_id, OLD.charging_start_time, {now} WHERE OLD.session_id <> NEW.session_id"
    " OR OLD.user_id IS NOT NEW.user_id OR OLD.charging_start_time IS NOT NEW.charging_start_time"
)
SQLITE = {
    "zap_session_replaced": ("BEFORE INSERT ON", "", [_TAKEN]),
    "zap_session_inserted": (
        "AFTER INSERT ON",
        f" WHEN NEW.charging_start_time >= date('now', '-{DAYS} days')",
        [_NEW],
    ),
    "zap_session_overwritten": (
        "BEFORE UPDATE ON",
        " WHEN NEW.session_id <> OLD.session_id",
        [_TAKEN],
    ),
    "zap_session_updated": ("AFTER UPDATE ON", "", [_NEW, _MOVED]),
    "zap_session_deleted": ("AFTER DELETE ON", "", [_OLD]),
}
SQLITE_NOW = "strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00'"

# PostgreSQL: the name of each trigger, its event, and when it is enabled. Logical replication fires only triggers for
# rows that are enabled for replicas; no other program fires these.
_STATEMENT = "FOR EACH STATEMENT"
POSTGRESQL = {
    "zap_session_inserted": (f"AFTER INSERT ON {{}} REFERENCING NEW TABLE AS new_rows {_STATEMENT}", ""),
    "zap_session_updated": (
        f"AFTER UPDATE ON {{}} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows {_STATEMENT}",
        "",
    ),
    "zap_session_deleted": (f"AFTER DELETE ON {{}} REFERENCING OLD TABLE AS old_rows {_STATEMENT}", ""),
    "zap_session_truncated": (f"AFTER TRUNCATE ON {{}} {_STATEMENT}", "ALWAYS"),
    "zap_session_replicated": ("AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW", "REPLICA"),
}
# The function has the rights of its owner, because a role that writes sessions may have no right to the log. It only
# inserts, so writers do not wait for each other. `transaction_id` is the transaction that writes, and `oldest_running`
# the oldest transaction that has not ended yet. The selects of these two are computed once for a statement.
BODY = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_LEVEL = 'ROW' THEN
        IF TG_OP = 'UPDATE'
        OR (TG_OP = 'INSERT' AND NEW.charging_start_time >= (now() AT TIME ZONE 'UTC')::date - {days}) THEN
            INSERT INTO {log} SELECT
            NEW.session_id, NEW.user_id, to_char(NEW.charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps};
        END IF;
        IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.session_id, OLD.user_id, OLD.charging_start_time)
            IS DISTINCT FROM (NEW.session_id, NEW.user_id, NEW.charging_start_time)) THEN
            INSERT INTO {log} SELECT
            OLD.session_id, OLD.user_id, to_char(OLD.charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps};
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM new_rows WHERE charging_start_time >= (now() AT TIME ZONE 'UTC')::date - {days};
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM (
            SELECT session_id, user_id, charging_start_time FROM new_rows
            UNION ALL (
                SELECT session_id, user_id, charging_start_time FROM old_rows
                EXCEPT SELECT session_id, user_id, charging_start_time FROM new_rows
            )
        ) AS changed;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM old_rows;
    ELSE
        INSERT INTO {log} SELECT NULL, NULL, NULL, {stamps};
    END IF;
    RETURN NULL;
END $$
"""
STAMPS = (
    "clock_timestamp(), (SELECT pg_current_xact_id()::text::bigint),"
    " (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
)
LOGGED = "(session_id, user_id, charging_start_time, changed_at{more})"
MORE = ", transaction_id, oldest_running"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's object has the name of a new object. Nothing is changed then."""
    inspector = sa.inspect(connection)
    if NAME in {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}:
        raise CommandError(
            f"there is something called {NAME} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )
    if _columns(connection) not in (None, COLUMNS):
        raise CommandError(
            f"there is an index called {INDEX} already, which is not the one that zap makes; nothing was changed."
            " Rename it, then upgrade again."
        )
    for kind, name in _taken(connection):
        raise CommandError(
            f"there is a {kind} called {name} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    _make_index()
    op.create_table(
        NAME,
        sa.Column("change_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("charging_start_time", sa.String(), nullable=True),
        sa.Column("changed_at", STAMP, nullable=False),
        sa.Column("transaction_id", ID, nullable=True),
        sa.Column("oldest_running", ID, nullable=True),
        sa.PrimaryKeyConstraint("change_id", name=f"pk_{NAME}"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        TRANSACTIONS,
        NAME,
        ["transaction_id"],
        sqlite_where=OF_A_TRANSACTION,
        postgresql_where=OF_A_TRANSACTION,
    )
    make_triggers(op.get_bind())


def downgrade() -> None:
    connection = op.get_bind()
    drop_triggers(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_qualified(connection, FUNCTION)}()")
    op.drop_index(TRANSACTIONS, NAME)
    op.drop_table(NAME)
    op.drop_index(INDEX, TABLE, if_exists=True)


def make_triggers(connection: sa.Connection) -> None:
    """Make the triggers, also instead of earlier ones, and log that any session may have changed before.

    A later zap calls this too, if another program has dropped ChargingSessions, with its triggers, and made it anew.
    """
    drop_triggers(connection)
    if connection.dialect.name == "sqlite":
        into = f"INSERT INTO {NAME} {LOGGED.format(more='')}"
        for name, (event, when, rows) in SQLITE.items():
            body = " ".join(f"{into} {row.format(now=SQLITE_NOW)};" for row in rows)
            connection.exec_driver_sql(f'CREATE TRIGGER {name} {event} "{TABLE}" FOR EACH ROW{when} BEGIN {body} END')
        connection.exec_driver_sql(f"{into} VALUES (NULL, NULL, NULL, {SQLITE_NOW})")
        return
    function, table = _qualified(connection, FUNCTION), f'"{TABLE}"'
    log = f"{_qualified(connection, NAME)} {LOGGED.format(more=MORE)}"
    connection.exec_driver_sql(BODY.format(function=function, log=log, stamps=STAMPS, days=DAYS))
    for name, (event, enabled) in POSTGRESQL.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {event.format(table)} EXECUTE FUNCTION {function}()")
        if enabled:
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE {enabled} TRIGGER {name}")
    connection.exec_driver_sql(f"INSERT INTO {log} SELECT NULL, NULL, NULL, {STAMPS}")


def drop_triggers(connection: sa.Connection) -> None:
    """Drop the triggers that exist."""
    if connection.dialect.name == "sqlite":
        for name in SQLITE:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        return
    for name in POSTGRESQL:
        connection.exec_driver_sql(f'DROP TRIGGER IF EXISTS {name} ON "{TABLE}"')


def _make_index() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.create_index(INDEX, TABLE, COLUMNS, if_not_exists=True)
        return
    with op.get_context().autocommit_block():
        # A build that was interrupted leaves an index that PostgreSQL does not use.
        valid = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        if op.get_bind().scalar(valid, {"name": f'"{INDEX}"'}) is False:
            op.drop_index(INDEX, TABLE, postgresql_concurrently=True)
        op.create_index(INDEX, TABLE, COLUMNS, postgresql_concurrently=True, if_not_exists=True)


def _qualified(connection: sa.Connection, name: str) -> str:
    """Return a name on PostgreSQL with its schema: the schema of session_changes."""
    schema = connection.scalar(
        sa.text("SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE pg_class.oid = to_regclass(:name)"),
        {"name": NAME},
    )  # fmt: skip
    return f"{schema}.{name}"


def _taken(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return the triggers and functions that have the names of the new ones, each with its kind."""
    if connection.dialect.name == "sqlite":
        found = connection.scalars(sa.text("SELECT lower(name) FROM sqlite_master WHERE type = 'trigger'"))
        return [("trigger", name) for name in found if name in SQLITE]
    triggers = sa.text("SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass(:name) ORDER BY 1")
    taken = [("trigger", name) for name in connection.scalars(triggers, {"name": f'"{TABLE}"'}) if name in POSTGRESQL]
    functions = sa.text(
        "SELECT proname::text FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE proname = :name AND nspname = current_schema()"
    )
    return taken + [("function", name) for name in connection.scalars(functions, {"name": FUNCTION})]


def _columns(connection: sa.Connection) -> list[str] | None:
    """Return the columns of the index with the name of the new index, or None without such an index."""
    if connection.dialect.name == "sqlite":
        there = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND lower(name) = lower(:name)"
        columns = "SELECT name FROM pragma_index_info(:name)"
        name = INDEX
    else:
        there = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name)"
        columns = (
            "SELECT attname::text FROM pg_attribute JOIN pg_index ON attrelid = indexrelid"
            " WHERE indexrelid = to_regclass(:name) ORDER BY attnum"
        )
        name = f'"{INDEX}"'
    if connection.scalar(sa.text(there), {"name": name}) is None:
        return None
    return list(connection.scalars(sa.text(columns), {"name": name}))
