"""The database: reachable, at head, writable, its clock, its connections, and the version that serves."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from zap.checks.access import look_at_keys
from zap.checks.finding import Finding
from zap.db.api_keys import has_keys
from zap.db.engine import create_engine, database_now, reading_engine
from zap.db.erasure.ledger import ledger_file, read_file, read_ledger
from zap.db.free_pages import file_pages
from zap.db.log.prediction_log import check_writable
from zap.db.read_replica import ReadReplica
from zap.db.schema import check_at_head, check_rights
from zap.db.unusable import reason_of
from zap.db.versions.model_registry import load_version, production_version
from zap.errors import (
    DatabaseAhead,
    DatabaseBehind,
    DatabaseReplaced,
    DatabaseUnavailable,
    InvalidSettings,
    UnusableFile,
    ZapError,
)
from zap.settings import Settings

# How many seconds the clocks of this machine and of PostgreSQL may differ. This machine gives the times of answers, and
# PostgreSQL the times of heartbeats and of figures.
_CLOCKS_SECONDS = 2.0
# The most connections to PostgreSQL that one server process opens: the pool of SQLAlchemy.
_OF_A_PROCESS = 15
_SETTING = "ZAP_DATABASE_URL"


def look_at_database(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the database of these settings. It takes seconds, because the model is loaded."""
    shown = settings.shown_url
    if settings.url.drivername == "sqlite" and not (file := Path(str(settings.url.database))).exists():
        message = f"the file {file} does not exist, so zap serve makes a new, empty database"
        yield Finding("database-new", _SETTING, shown, message, "if you expected a database, correct the path")
        yield from look_at_keys(settings, is_closed=settings.api_key is not None)
        return
    # A database that zap cannot use stays as it is: other engines change the journal's mode.
    reader = reading_engine(settings.database_url)
    try:
        found = _schema(reader, shown)
    finally:
        reader.dispose()
    if found is not None:
        yield found
        if found.id != "database-differs":
            return
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    try:
        yield from _writable(engine, shown)
        yield from look_at_server(engine, settings)
        yield from _removal(engine, settings)
        yield from _reads(engine, settings)
        yield from _model(engine)
    except (SQLAlchemyError, DatabaseReplaced) as error:
        yield _unavailable(shown, reason_of(error) if isinstance(error, SQLAlchemyError) else error.message)
    finally:
        engine.dispose()


def look_at_server(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Yield whether zap needs a key, and what does not fit between this machine and the server of PostgreSQL.

    It takes a few short queries to a database at head.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    with engine.connect() as connection:
        is_closed = settings.api_key is not None or has_keys(connection)
    yield from look_at_keys(settings, is_closed=is_closed)
    yield from _erasures(engine, settings)
    if engine.dialect.name == "postgresql":
        yield from _postgresql(engine, settings)


def _postgresql(engine: Engine, settings: Settings) -> Iterator[Finding]:
    with engine.connect() as connection:
        before = datetime.now(UTC)
        theirs = database_now(connection)
        after = datetime.now(UTC)
        most, reserved = (
            int(str(connection.scalar(text(f"SHOW {name}"))))
            for name in ("max_connections", "superuser_reserved_connections")
        )
        driver: Any = connection.connection.driver_connection
        is_encrypted = bool(driver.pgconn.ssl_in_use)
    off = max((theirs - after).total_seconds(), (before - theirs).total_seconds())
    if off > _CLOCKS_SECONDS:
        yield Finding(
            "database-clock",
            "",
            f"{off:.1f} s",
            f"the clocks of this machine and of the database differ by {off:,.1f} seconds, so times of answers and of"
            " trainings do not fit together",
            "let both machines set their clocks by NTP",
        )
    needed = settings.workers * _OF_A_PROCESS
    if needed > most - reserved:
        yield Finding(
            "database-connections",
            "ZAP_WORKERS",
            str(settings.workers),
            f"under load, {settings.workers} server processes open up to {needed} connections, and the database takes"
            f" {most - reserved} from all its clients",
            "raise max_connections of PostgreSQL, use a pooler, or lower ZAP_WORKERS",
        )
    host = settings.url.host
    if host is not None and not is_encrypted and not is_this_machine(host):
        yield Finding(
            "database-unencrypted",
            _SETTING,
            settings.shown_url,
            f"the connection to {host} is not encrypted, so others in the network can read what drivers do",
            "switch TLS on in PostgreSQL, and add ?sslmode=verify-full to the URL",
        )


def _erasures(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Yield whether the file of the ledger names erasures that the database lacks, as an older database does."""
    file = ledger_file(settings.database_url)
    if file is None:
        return
    try:
        named = read_file(file)
    except UnusableFile as error:
        hint = "put back the file from a backup, or move this file away"
        yield Finding("erased-are-back", _SETTING, str(file), error.message, hint)
        return
    with engine.connect() as connection:
        known = {entry.same for entry in read_ledger(connection)} if named else set()
    if lacking := sum(entry.same not in known for entry in named):
        yield Finding(
            "erased-are-back",
            _SETTING,
            str(file),
            f"the ledger beside the database names {lacking:,} erasures that the database does not hold, so it is older"
            " than they are, and may hold erased drivers again",
            "stop zap, and run `zap drivers erase-again`",
        )


def _removal(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Yield whether the settings of retention do less than they seem to do."""
    kept = {
        "ZAP_KEEP_REQUESTS_DAYS": settings.keep_requests_days,
        "ZAP_KEEP_TRAIN_PREDICTIONS_VERSIONS": settings.keep_train_predictions_versions,
    }
    names = [name for name, value in kept.items() if value is not None]
    if not names:
        return
    value = ", ".join(str(kept[name]) for name in names)
    if not settings.follow:
        yield Finding(
            "nothing-removed",
            ", ".join(names),
            value,
            "ZAP_FOLLOW is false, so this server removes no old rows",
            "run `zap follow` on one machine, or run `zap predictions prune` every day",
        )
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        if not file_pages(connection).can_return:
            yield Finding(
                "file-keeps-size",
                ", ".join(names),
                value,
                "rows are removed, and the file of the database does not become smaller, because an older zap made it",
                "stop zap, and run `zap db compact` once",
            )


def _reads(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Yield whether pages and lists cannot be read from ZAP_READ_DATABASE_URL."""
    if settings.read_database_url is None:
        return
    setting, shown = "ZAP_READ_DATABASE_URL", make_url(settings.read_database_url).render_as_string()
    reads = ReadReplica(engine, create_engine(settings.read_database_url))
    try:
        reads.check()
    except InvalidSettings as error:
        message, _, hint = error.message.rpartition("; ")
        yield Finding("read-database-wrong", setting, shown, message, hint)
        return
    finally:
        reads.close()
    if reads.status != "ok":
        yield Finding(
            "read-database-unused",
            setting,
            shown,
            f"pages and lists are read from the primary, because the read replica cannot be used: {reads.status}",
            "start the replica, open the way to it, or correct ZAP_READ_DATABASE_URL",
        )


def is_this_machine(host: str) -> bool:
    """Return whether the host of a database URL is this machine: a loopback address, or the folder of a socket."""
    return host.startswith(("/", "127.")) or host in {"", "localhost", "::1"}


def _schema(engine: Engine, shown: str) -> Finding | None:
    try:
        warning = check_at_head(engine)
    except DatabaseBehind as error:
        hint = "run `zap db upgrade`; zap serve does it too"
        return Finding("database-behind", _SETTING, shown, error.message, hint)
    except DatabaseAhead as error:
        return Finding("database-ahead", _SETTING, shown, error.message, "install the newer zap")
    except ZapError as error:
        return _unavailable(shown, error.message)
    if warning is None:
        return None
    return Finding("database-differs", _SETTING, shown, warning, "see Operating in the manual")


def _writable(engine: Engine, shown: str) -> Iterator[Finding]:
    try:
        check_rights(engine)
        check_writable(engine)
    except DatabaseUnavailable as error:
        yield Finding("database-rights", _SETTING, shown, error.message, "grant these rights")
    except SQLAlchemyError as error:
        yield Finding(
            "database-not-writable",
            _SETTING,
            shown,
            f"the database takes no rows ({reason_of(error)}), so zap refuses all requests for predictions",
            "let the user of zap write the database file and its folder; a PostgreSQL server must not be a standby",
        )


def _model(engine: Engine) -> Iterator[Finding]:
    version = production_version(engine)
    if version is None:
        yield Finding(
            "no-model",
            "",
            "",
            "no model version serves, so POST /predict answers 503",
            "import a history and run `zap train`, or start with `zap serve --bootstrap`",
        )
        return
    from zap.ml.inference import Predictor  # noqa: PLC0415 - heavy

    try:
        Predictor(load_version(engine, version), version.model_version)
    except ZapError as error:
        yield Finding(
            "model-unusable",
            "",
            f"version {version.model_version}",
            f"version {version.model_version} is in production and cannot be loaded: {error.message}",
            "train again, or go back with `zap models rollback`",
        )


def _unavailable(shown: str, reason: str) -> Finding:
    hint = "start the database, or correct ZAP_DATABASE_URL"
    return Finding("database-unavailable", _SETTING, shown, reason, hint)
