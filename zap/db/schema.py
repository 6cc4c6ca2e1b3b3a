"""The schema: every supported database is brought to head, and zap works on none that is not there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy
from sqlalchemy import Connection, Engine, column, event, func, inspect, make_url, select, table
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from zap.errors import AdoptionRefused, DatabaseAhead, DatabaseBehind, DatabaseUnavailable

# Any constant will do, as long as every zap on one PostgreSQL database uses the same.
_UPGRADE_LOCK_KEY = 0x7A61_7003
# How long an upgrade waits for another one, or for whoever else writes to the file.
_SQLITE_PATIENCE_SECONDS = 60

# What Alembic reads of a migration, without running it.
_REVISION = re.compile(r'^(revision|down_revision) = "?(\w+)"?$', re.MULTILINE)
_VERSION = table("alembic_version", column("version_num"))

Report = Callable[[str], object]


class _Revisions(NamedTuple):
    head: str
    known: frozenset[str]


def silent(line: str) -> None:
    """For callers with nobody to report to."""


def upgrade(url: str, report: Report = silent) -> None:
    """Bring a database to head: one that is not there yet, an empty one, a ZapApp database, an older zap's.

    Args:
        url: the database.
        report: called with each line that a person should see; not at all when nothing was to be done.

    Raises:
        AdoptionRefused: the tables that are there cannot be adopted without losing something.
        DatabaseAhead: a newer zap made it.
        DatabaseUnavailable: it cannot be opened, or it is no database.
    """
    engine = _engine(url)
    with _explained(engine):
        if not _is_missing_file(engine):
            with engine.connect().execution_options(immediate=False) as connection:
                if is_at_head(connection):
                    return
    # A server whose database is at head needs no Alembic: it is memory and a part of its start.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"url": url, "report": report})
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        # The migrations are frozen and know nothing of zap's errors; this is how they refuse.
        raise AdoptionRefused(str(error)) from None


def check_at_head(engine: Engine) -> None:
    """Refuse to work on a database that this code does not fit.

    Raises:
        DatabaseBehind: it has to be upgraded first.
        DatabaseAhead: a newer zap made it.
        DatabaseUnavailable: it cannot be opened, or it is no database.
    """
    with _explained(engine):
        # Connecting would make the file.
        if not _is_missing_file(engine):
            with engine.connect() as connection:
                if is_at_head(connection):
                    return
    raise DatabaseBehind(
        f"the database is not at revision {_revisions().head}, which this zap needs; "
        "run `zap db upgrade` (or `alembic upgrade head`)"
    )


def is_at_head(connection: Connection) -> bool:
    """Whether the schema is the one that this code needs.

    Raises:
        DatabaseAhead: a newer zap made it.
    """
    return refuse_newer(connection) == _revisions().head


def refuse_newer(connection: Connection) -> str | None:
    """The revision of the schema, None where there is none.

    Raises:
        DatabaseAhead: it is one that this code does not know.
    """
    if not inspect(connection).has_table(_VERSION.name):
        return None
    revision: str | None = connection.scalar(select(_VERSION.c.version_num))
    if revision is not None and revision not in _revisions().known:
        raise DatabaseAhead(
            f"the database is at revision {revision}, which this zap does not know (its newest is "
            f"{_revisions().head}): a newer zap made it, or another program's migrations did; "
            "install that zap, or name another database"
        )
    return revision


@contextmanager
def migration_transaction(url: str) -> Iterator[Connection]:
    """The one transaction of a migration. Until it ends no other runs, and on SQLite nobody else writes.

    Raises:
        DatabaseUnavailable: the database cannot be opened, or it is no database.
    """
    engine = _engine(url)
    with _explained(engine):
        if engine.dialect.name == "sqlite":
            Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK_KEY)))
            yield connection


@cache
def migrations_folder() -> Path:
    """Inside the package where zap was installed from a wheel, beside it in a checkout."""
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
    """An engine for migrations. Enforced foreign keys would delete rows when a table is rebuilt."""
    if make_url(url).get_backend_name() != "sqlite":
        return sqlalchemy.create_engine(url, poolclass=NullPool)
    engine = sqlalchemy.create_engine(
        url,
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": _SQLITE_PATIENCE_SECONDS},
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # One that turns writer half-way would fail at once where somebody else wrote in between.
        immediate = connection.get_execution_options().get("immediate", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _is_missing_file(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists()


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    """Turn what a driver or the system says about an unusable database into zap's words."""
    try:
        yield
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and not _is_about_the_database(error):
            raise
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
        raise DatabaseUnavailable(
            f"{engine.url.render_as_string(hide_password=True)} cannot be used: {reason}. "
            "Check that ZAP_DATABASE_URL names the right database and that nothing else keeps it locked."
        ) from error


def _is_about_the_database(error: DBAPIError) -> bool:
    """No server, not a database, locked, full: all but a wrong statement, which would be a mistake in zap."""
    connecting = error.statement is None
    return connecting or isinstance(error, OperationalError) or type(error) is DatabaseError
