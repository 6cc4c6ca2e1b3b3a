"""The triggers of tables: the log of changes of sessions, and the guard of the audit. Find missing ones, make them."""

from typing import NamedTuple

from sqlalchemy import Connection, text

_TABLE = "table"
# On PostgreSQL a trigger may be enabled for usual programs (O), for replication (R) or always (A).
_USUAL = "OA"


class Triggers(NamedTuple):
    """The triggers of one table. A program that drops the table and makes it anew drops its triggers too.

    Attributes:
        table: the table.
        names: the triggers on each engine.
        enabled: for triggers on PostgreSQL that are not for usual programs, how they must be enabled.
        steps: the revisions that make the triggers, and what each has to be asked for, in this order.
        lack: what follows if they are missing.
    """

    table: str
    names: dict[str, tuple[str, ...]]
    enabled: dict[str, str]
    steps: tuple[tuple[str, str], ...]
    lack: str


SESSIONS = Triggers(
    "ChargingSessions",
    {
        "sqlite": (
            "zap_session_deleted",
            "zap_session_inserted",
            "zap_session_overwritten",
            "zap_session_replaced",
            "zap_session_updated",
        ),
        "postgresql": (
            "zap_session_deleted",
            "zap_session_inserted",
            "zap_session_replicated",
            "zap_session_truncated",
            "zap_session_updated",
        ),
    },
    {"zap_session_replicated": "RA", "zap_session_truncated": "A"},
    (("0009", "make_triggers"), ("0010", "log_all_inserts")),
    "so zap cannot see which sessions change",
)
AUDIT = Triggers(
    "audit",
    {
        "sqlite": ("zap_audit_deleted", "zap_audit_replaced", "zap_audit_updated"),
        "postgresql": ("zap_audit_changed",),
    },
    {"zap_audit_changed": "A"},
    (("0013", "make_triggers"),),
    "so the database does not refuse to change its rows",
)
TRIGGERS = (SESSIONS, AUDIT)
_THERE = {
    "sqlite": text("SELECT type, name, NULL FROM sqlite_master WHERE lower(tbl_name) = lower(:table)"),
    "postgresql": text(
        """
        SELECT 'table', relname::text, NULL FROM pg_class
        WHERE oid = to_regclass(quote_ident(:table)) AND relkind IN ('r', 'p')
        UNION ALL SELECT 'trigger', tgname::text, tgenabled::text FROM pg_trigger
        WHERE tgrelid = to_regclass(quote_ident(:table))
        """
    ),
}


def are_logged(connection: Connection) -> bool:
    """Return whether all changes of ChargingSessions are logged: no trigger is missing."""
    return _there(connection, SESSIONS).issuperset(SESSIONS.names[connection.dialect.name])


def lost_triggers(connection: Connection) -> dict[str, list[str]]:
    """Return the triggers that are missing on each table; no table that is missing itself, or lacks none."""
    found = {}
    for one in TRIGGERS:
        there = _there(connection, one)
        lost = [name for name in one.names[connection.dialect.name] if name not in there]
        if lost and _TABLE in there:
            found[one.table] = lost
    return found


def _there(connection: Connection, of: Triggers) -> set[str]:
    """Return the names of the triggers on a table, and `_TABLE` if there is such a table."""
    there = set()
    for kind, name, enabled in connection.execute(_THERE[connection.dialect.name], {"table": of.table}):
        if kind == "table":
            there.add(_TABLE)
        elif kind == "trigger" and (enabled is None or enabled in of.enabled.get(name, _USUAL)):
            there.add(str(name))
    return there


def warnings_of(lost: dict[str, list[str]]) -> dict[str, str]:
    """Return for each table the warning about its missing triggers."""
    return {
        one.table: f"{one.table} lacks the triggers {', '.join(lost[one.table])}, {one.lack}: another program has"
        " dropped or disabled them, or has dropped the table and made it anew. Run `zap db upgrade` to make them again"
        for one in TRIGGERS
        if one.table in lost
    }


def make_triggers(connection: Connection) -> None:
    """Make all triggers again of tables that lack some, on a database at head.

    The triggers of ChargingSessions log that any session may have changed.

    Args:
        connection: of `run_migrations`. On PostgreSQL the triggers are committed.
    """
    # Imported only here, because Alembic takes memory and time when a server starts.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from zap.db.schema import migrations_folder  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    revisions = ScriptDirectory.from_config(config)
    # Another upgrade may have made them meanwhile.
    lost = lost_triggers(connection)
    for one in TRIGGERS:
        for revision, step in one.steps if one.table in lost else ():
            getattr(revisions.get_revision(revision).module, step)(connection)
    if connection.dialect.name == "postgresql":
        connection.commit()


def drop_triggers(connection: Connection) -> None:
    """Drop the triggers that exist, before whole tables are written. `zap.db.schema.upgrade` makes them again."""
    quote = connection.dialect.identifier_preparer.quote
    for one in TRIGGERS:
        of_table = "" if connection.dialect.name == "sqlite" else f" ON {quote(one.table)}"
        for name in one.names[connection.dialect.name]:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{of_table}")
