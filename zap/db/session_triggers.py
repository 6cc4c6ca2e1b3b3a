"""The triggers that log changes of ChargingSessions: which are missing, and how to make them again."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

# A program that drops the table and makes it anew drops its triggers too.
TRIGGERS = {
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
}
_TABLE = "table"
# The revisions that make the triggers, and what each has to be asked for, in this order.
_STEPS = (("0009", "make_triggers"), ("0010", "log_all_inserts"))
# The kind of ChargingSessions, and its triggers. On PostgreSQL a trigger may be enabled for usual programs (O), for
# replication (R) or always (A); with another setting than the migration's it counts as missing.
_THERE = {
    "sqlite": text("SELECT type, name FROM sqlite_master WHERE lower(tbl_name) = 'chargingsessions'"),
    "postgresql": text(
        """
        SELECT 'table', relname::text FROM pg_class
        WHERE oid = to_regclass('"ChargingSessions"') AND relkind IN ('r', 'p')
        UNION ALL SELECT 'trigger', tgname::text FROM pg_trigger
        WHERE tgrelid = to_regclass('"ChargingSessions"') AND CASE tgname
            WHEN 'zap_session_replicated' THEN tgenabled IN ('R', 'A')
            WHEN 'zap_session_truncated' THEN tgenabled = 'A'
            ELSE tgenabled IN ('O', 'A') END
        """
    ),
}


def are_logged(connection: Connection) -> bool:
    """Return whether all changes of ChargingSessions are logged: no trigger is missing."""
    return _there(connection).issuperset(TRIGGERS[connection.dialect.name])


def lost_triggers(connection: Connection) -> list[str]:
    """Return the triggers that are missing on ChargingSessions; none if there is no such table."""
    there = _there(connection)
    return [name for name in TRIGGERS[connection.dialect.name] if name not in there] if _TABLE in there else []


def _there(connection: Connection) -> set[str]:
    """Return the names of the triggers on ChargingSessions, and `_TABLE` if there is such a table."""
    found = connection.execute(_THERE[connection.dialect.name])
    return {_TABLE if kind == "table" else str(name) for kind, name in found if kind in {"table", "trigger"}}


def warning_of(lost: Sequence[str]) -> str | None:
    """Return the warning about missing triggers; None if none is missing."""
    if not lost:
        return None
    return (
        f"ChargingSessions lacks the triggers {', '.join(lost)}, so zap cannot see which sessions change: another"
        " program has dropped or disabled them, or has dropped the table and made it anew. Run `zap db upgrade` to make"
        " them again"
    )


def make_triggers(connection: Connection) -> None:
    """Make all triggers again, on a database at head, and log that any session may have changed.

    Args:
        connection: of `run_migrations`. On PostgreSQL the triggers are committed.
    """
    # Imported only here, because Alembic takes memory and time when a server starts.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from zap.db.schema import migrations_folder  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    # Another upgrade may have made them meanwhile.
    if lost_triggers(connection):
        revisions = ScriptDirectory.from_config(config)
        for revision, step in _STEPS:
            getattr(revisions.get_revision(revision).module, step)(connection)
    if connection.dialect.name == "postgresql":
        connection.commit()
