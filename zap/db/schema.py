"""The schema: upgrades of every supported database to head, and the checks before zap uses a database."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import sqlalchemy
from sqlalchemy import Connection, Engine, column, event, inspect, make_url, select, table
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from zap.db.additions import changes
from zap.db.free_pages import NEW_FILE
from zap.db.moving.unfinished_copy import source_of_copy
from zap.db.rights import grants, missing_rights
from zap.db.triggers import lost_triggers, make_triggers, warnings_of
from zap.db.unusable import reason_of, unusable
from zap.errors import AdoptionRefused, DatabaseAhead, DatabaseBehind, DatabaseUnavailable

# How long an upgrade waits for another upgrade, or for another writer on the file.
_SQLITE_PATIENCE_SECONDS = 60

# The revision and its predecessor in the text of a migration, so that Alembic need not be imported.
_REVISION = re.compile(r'^(revision|down_revision) = "?(\w+)"?$', re.MULTILINE)
# PostgreSQL's error codes for a role without a right, and for a role without a schema in which it may create tables.
_NO_RIGHT = frozenset({"42501", "3F000"})
_RIGHTS = (
    "An upgrade needs the owner of the tables, or for a new database CREATE on its schema. To serve, a role needs"
    " SELECT, INSERT, UPDATE and DELETE on all tables (alembic_version too) and USAGE and UPDATE on all sequences: as"
    " the owner, run `zap db upgrade` and grant these rights"
)
_VERSION = table("alembic_version", column("version_num"))

# For each database, a newer revision that this code can use, and its warning. The check takes a hundred queries.
_fits: WeakKeyDictionary[Engine, tuple[str, str]] = WeakKeyDictionary()

Report = Callable[[str], object]


class _Revisions(NamedTuple):
    head: str
    known: frozenset[str]


def silent(line: str) -> None:
    """Ignore a line, for callers that do not show a report."""


def upgrade(url: str, report: Report = silent) -> None:
    """Upgrade a database to head: a missing or empty database, a ZapApp database, or a database of an older zap.

    A database of a newer zap is not changed, if it only adds to the schema that this zap needs.

    Args:
        url: of the database.
        report: called with each line that a person should see; not called if there is nothing to do.

    Raises:
        AdoptionRefused: the existing tables cannot be adopted without losing data, or the database refused a step.
        DatabaseAhead: a newer zap upgraded the database, and this zap cannot use it.
        DatabaseUnavailable: the database cannot be opened, the file is not a database, or the role lacks rights.
        UpgradeBlocked: on PostgreSQL another connection kept a lock for too long.
    """
    engine = _engine(url)
    with _explained(engine):
        if not _is_missing_file(engine):
            with engine.connect().execution_options(immediate=False) as connection:
                revision = _revision(connection)
                at_head = revision == _revisions().head
                lost = lost_triggers(connection) if at_head else {}
                if _is_unknown(revision):
                    report(f"{_check_additions(connection, revision)}; there is nothing to upgrade")
                    return
            if lost:
                run_migrations(url, make_triggers)
                for name, triggers in lost.items():
                    report(f"made the triggers {', '.join(triggers)} of {name} again")
            if at_head:
                return
    # Imported only for an upgrade, because Alembic takes memory and time when a server starts.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"url": url, "report": report})
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        # Migrations are frozen and do not import zap's errors: they raise CommandError to refuse a database.
        raise AdoptionRefused(str(error)) from None


def check_at_head(engine: Engine) -> str | None:
    """Check that this code can use the schema of a database.

    Returns:
        None for a database at head. A warning for a newer database that only adds to the schema that this code needs,
        or for a database without the triggers that log changes of sessions or guard the audit.

    Raises:
        DatabaseBehind: the database has to be upgraded first.
        DatabaseAhead: a newer zap upgraded the database, and this code cannot use it.
        DatabaseUnavailable: there is no file, the database cannot be opened, the file is not a database, or it is an
            unfinished copy.
    """
    _refuse_missing_file(engine)
    with _explained(engine), engine.connect() as connection:
        if (source := source_of_copy(connection)) is not None:
            raise DatabaseUnavailable(
                f"{_shown(engine)} is an unfinished copy of {source}; finish it with `zap db copy --finish`, or use"
                " another database"
            )
        revision = _revision(connection)
        if revision == _revisions().head:
            return "; ".join(warnings_of(lost_triggers(connection)).values()) or None
        if _is_unknown(revision):
            if _fits.get(engine, ("", ""))[0] != revision:
                _fits[engine] = revision, _check_additions(connection, revision)
            return _fits[engine][1]
    raise DatabaseBehind(
        f"the database is not at revision {_revisions().head}, which this zap needs; "
        "run `zap db upgrade` (or `alembic upgrade head`)"
    )


def known_revision(url: str) -> str:
    """Return the revision of a database, which may be older than this code.

    Raises:
        DatabaseBehind: the database has no revision.
        DatabaseAhead: this code does not know the revision.
        DatabaseUnavailable: there is no file, the database cannot be opened, or the file is not a database.
    """
    engine = _engine(url)
    _refuse_missing_file(engine)
    with _explained(engine), engine.connect().execution_options(immediate=False) as connection:
        revision = refuse_newer(connection)
    if revision is None:
        raise DatabaseBehind(f"{_shown(engine)} has no revision, so it is not a database of zap")
    return revision


def _refuse_missing_file(engine: Engine) -> None:
    # A connection would create the file.
    if _is_missing_file(engine):
        raise DatabaseUnavailable(
            f"there is no file {_file(engine)}; check ZAP_DATABASE_URL or --database-url, or make the database with"
            " `zap db upgrade`"
        )


def check_rights(engine: Engine) -> None:
    """Check on PostgreSQL that the role has the rights that a prediction needs.

    Raises:
        DatabaseUnavailable: rights are missing. The message names each, and has the statements that grant them.
    """
    if engine.dialect.name != "postgresql":
        return
    keys = {"inference_inputs": "input_id", "predictions": "prediction_id"}
    with _explained(engine), engine.connect() as connection:
        missing = missing_rights(connection, list(SQLModel.metadata.tables), keys)
        granted = f"As the owner of the tables: {grants(connection, missing)} " if missing else ""
    lacks = [*map(str, missing)] or _refused_insert(engine)
    if lacks:
        raise DatabaseUnavailable(
            f"{_shown(engine)}: its role lacks the rights {', '.join(lacks)}: zap could not answer predictions."
            f" {granted}{_RIGHTS}"
        )


def _refused_insert(engine: Engine) -> list[str]:
    """Return why the log takes no row from this role: rights to some columns, or row security; nothing if it does."""
    from zap.db.log.prediction_log import check_writable  # noqa: PLC0415 - the log is built on this module's ground

    try:
        check_writable(engine)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _NO_RIGHT:
            return [f"insert a row of the log ({str(error.orig).strip().splitlines()[0]})"]
        # A server that is read-only now may take writes in a moment; readiness tells.
    return []


def refuse_newer(connection: Connection) -> str | None:
    """Return the revision of the schema; None if the database has no revision.

    Raises:
        DatabaseAhead: this code does not know the revision.
    """
    revision = _revision(connection)
    if _is_unknown(revision):
        raise DatabaseAhead(_ahead(revision))
    return revision


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION.name):
        return None
    revision: str | None = connection.scalar(select(_VERSION.c.version_num))
    return revision


def _is_unknown(revision: str | None) -> TypeGuard[str]:
    return revision is not None and revision not in _revisions().known


def _check_additions(connection: Connection, revision: str) -> str:
    """Return the warning for a newer database that this code can use.

    Raises:
        DatabaseAhead: the schema lacks a part that this code needs, or does not accept this code's rows.
    """
    if problems := changes(connection):
        raise DatabaseAhead(f"{_ahead(revision)}. This zap cannot use it: {'; '.join(problems)}")
    return (
        f"the database is at revision {revision}, which is newer than this zap (its newest is {_revisions().head})."
        " The newer revision only adds to the schema, so this zap can use it"
    )


def _ahead(revision: str) -> str:
    return (
        f"the database is at revision {revision}, which this zap does not know (its newest is "
        f"{_revisions().head}): a newer zap or another program has migrated it; "
        "install the newer zap, or use another database (ZAP_DATABASE_URL)"
    )


def run_migrations(url: str, migrate: Callable[[Connection], None], report: Report = silent) -> None:
    """Run migrations while no other process runs migrations.

    On SQLite they are one transaction, and no other connection writes meanwhile. On PostgreSQL each migration commits
    by itself, and is tried again if it gets no lock: `migrate` is called with a connection without a transaction, and
    may be called more than once.

    Args:
        url: of the database.
        migrate: runs the migrations.
        report: called with a line if a new SQLite file was made.

    Raises:
        DatabaseUnavailable: the database cannot be opened, the file is not a database, or the role lacks rights.
        AdoptionRefused: the database refused a step.
        UpgradeBlocked: on PostgreSQL another connection kept a lock for too long.
    """
    engine = _engine(url)
    with _explained(engine, changing=True):
        if engine.dialect.name == "postgresql":
            from zap.db.migration_locks import run_beside_others  # noqa: PLC0415

            run_beside_others(url, migrate)
            return
        if _make_private(_file(engine)):
            report(f"made the database {_file(engine)}")
        with engine.begin() as connection:
            migrate(connection)


def _make_private(file: Path) -> bool:
    """Create an empty database file that only its user can read, and return True; an existing file is not changed.

    SQLite creates the `-wal` and `-shm` files with the mode of this file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return False
    return True


@cache
def migrations_folder() -> Path:
    """Return the folder of the migrations: inside the package of an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@cache
def _revisions() -> _Revisions:
    follows = {}
    for file in (migrations_folder() / "versions").glob("*.py"):
        found = dict(_REVISION.findall(file.read_text()))
        follows[found["revision"]] = found["down_revision"]
    (head,) = follows.keys() - follows.values()
    return _Revisions(head=head, known=frozenset(follows))


def _engine(url: str) -> Engine:
    """Return an engine for migrations. It does not enforce foreign keys, which would delete rows of rebuilt tables."""
    if make_url(url).get_backend_name() != "sqlite":
        from zap.db.migration_engine import migration_engine  # noqa: PLC0415

        return migration_engine(url)
    engine = sqlalchemy.create_engine(
        url,
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": _SQLITE_PATIENCE_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _prepare_new_file(connection: sqlite3.Connection, _record: object) -> None:
        # On an existing file this would wait for other writers.
        if not _file(engine).stat().st_size:
            connection.execute(NEW_FILE).close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once if another connection wrote in between.
        immediate = connection.get_execution_options().get("immediate", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _is_missing_file(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite" and not _file(engine).exists()


def _file(engine: Engine) -> Path:
    return Path(str(engine.url.database)).absolute()


@contextmanager
def _explained(engine: Engine, *, changing: bool = False) -> Iterator[None]:
    """Raise zap's errors for errors of the database driver or the system.

    Args:
        engine: on the database.
        changing: whether the block changes the schema. Then a refusal may come from other programs' views or triggers.
    """
    try:
        yield
    except (DBAPIError, OSError) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) in _NO_RIGHT:
            role = engine.url.username or "of the connection"
            raise DatabaseUnavailable(
                f"{_shown(engine)}: the role {role} lacks rights: {reason_of(error)}. {_RIGHTS}"
            ) from error
        if isinstance(error, DBAPIError) and not _is_about_the_database(error):
            if not changing:
                raise
            raise AdoptionRefused(
                f"the database refused a step of the migration: {reason_of(error)}. The step was rolled back. Remove"
                f" or rename the object that prevents it, then try again. The step was: {_shortened(error.statement)}"
            ) from error
        raise unusable(engine.url, error) from error


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _shortened(statement: str | None) -> str:
    return " ".join((statement or "").split())[:200]


def _is_about_the_database(error: DBAPIError) -> bool:
    """Return whether an error is about the database (no server, not a database, locked, full), not a statement."""
    if error.statement is None:
        return True
    if isinstance(error.orig, sqlite3.Error):
        # sqlite3 raises OperationalError for an existing or missing name too, with the general code SQLITE_ERROR.
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in {
            sqlite3.SQLITE_ERROR,
            sqlite3.SQLITE_CONSTRAINT,
        }
    return isinstance(error, OperationalError) or type(error) is DatabaseError
