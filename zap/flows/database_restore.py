"""The restore of a whole database from the file of a backup, onto an engine of either kind."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, make_url

from zap.db.audit import note
from zap.db.audit_chain import stored_head
from zap.db.erasure.erasure_key import ErasureKey
from zap.db.moving.backup_file import (
    BackupFacts,
    check_pages,
    copy_pages,
    forget_facts,
    like,
    new_private_file,
    put_in_place,
    read_facts,
    remove_database,
)
from zap.db.moving.broken_rows import changed_artefacts, rows_without_parents
from zap.db.moving.connections import explained, reading, url_of_file, writing
from zap.db.moving.copy_turn import filling
from zap.db.moving.database_digests import database_digests, tables_there
from zap.db.moving.database_users import alone_on_file, refuse_users
from zap.db.moving.moved_tables import first_table_with_rows, moved_tables
from zap.db.moving.odd_cells import OddCells
from zap.db.moving.refill import refill
from zap.db.moving.sequences import move_sequences, positions
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.unfinished_copy import source_of_copy
from zap.db.schema import Report, known_revision, refuse_newer, silent, upgrade
from zap.errors import (
    DamagedBackup,
    DatabaseBehind,
    DatabaseNotEmpty,
    DatabaseUnavailable,
    UnsoundDatabase,
    UnusableFile,
)
from zap.flows.since_backup import end_since_backup, erase_since_backup
from zap.progress import Progress, no_progress

_STOP = (
    "Stop all servers and other programs that use it, then try again. With --force the connections do not matter: use"
    " this only if they do not write"
)


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore.

    Attributes:
        replace: whether the rows that the target has are replaced.
        force: whether other connections to a PostgreSQL target do not matter.
        erasure_key: the key of erasures, to find drivers who were erased after the backup was made.
        keep_erased: whether drivers who were erased with another key may come back.
    """

    replace: bool = False
    force: bool = False
    erasure_key: ErasureKey | None = None
    keep_erased: bool = False


@dataclass
class RestoreReport:
    """What was restored.

    Attributes:
        made_at: when the backup was begun; None if another program has made the file.
        tables: the number of rows and the hash of each table, before an upgrade.
        notes: what people should know about single values and versions.
    """

    made_at: str | None
    tables: dict[str, TableDigest]
    notes: list[str] = field(default_factory=list)


def restore(
    file: Path, url: str, options: RestoreOptions, progress: Progress = no_progress, report: Report = silent
) -> RestoreReport:
    """Check a backup, upgrade a copy of it, and put the copy in the place of a database: all of it or nothing.

    Args:
        file: the file of the backup.
        url: of the database.
        options: how to restore.
        progress: called with the phases.
        report: called with each line of an upgrade.

    Raises:
        UnusableFile: there is no such file, or it is the database itself.
        DamagedBackup: the file is no backup, or an unfinished copy, or its content has changed.
        DatabaseAhead: a newer zap made the backup.
        DatabaseInUse: another program uses the database.
        DatabaseNotEmpty: the database has rows, and they are not to be replaced.
        UnsoundDatabase: PostgreSQL cannot hold some rows of the backup.
        NoErasureKey: drivers were erased after the backup was made, with a key that is not here.
    """
    if not file.is_file():
        raise UnusableFile(f"there is no file {file}")
    to_sqlite = make_url(url).get_backend_name() == "sqlite"
    if to_sqlite and file.resolve() == Path(str(make_url(url).database)).resolve():
        raise UnusableFile(f"{file} is the database itself; name the file of a backup")
    with filling(url):
        replaced = _look_at_target(url, options)
        with _copy_to_upgrade(url) as copy:
            restored = _checked_copy(file, copy, progress)
            upgrade(url_of_file(copy), report)
            with writing(url_of_file(copy)) as engine, engine.begin() as connection:
                forget_facts(connection)
                after = {"file": file.name, "made_at": restored.made_at}
                note(connection, "database.restore", "database", before=replaced, after=after)
            restored.notes += _notes(copy)
            restored.notes += erase_since_backup(copy, url, options.erasure_key, progress, keeps=options.keep_erased)
            restored.notes += end_since_backup(copy, url)
            if to_sqlite:
                _put_file(copy, url)
            else:
                _put_rows(copy, url, report, progress)
    return restored


def _look_at_target(url: str, options: RestoreOptions) -> dict[str, Any] | None:
    """Return the head of the audit that will be replaced; None if there is none, or if it cannot be read.

    Raises:
        DatabaseInUse, DatabaseNotEmpty, DatabaseAhead: the database cannot be replaced.
    """
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and not Path(str(parsed.database)).exists():
        return None
    if sqlite or not options.force:
        refuse_users(url, _STOP)
    if sqlite and options.replace:
        # Even a damaged file, or the file of a newer zap.
        with contextlib.suppress(DatabaseUnavailable), reading(url) as connection:
            return _audit_head(connection)
        return None
    with reading(url) as connection, explained(parsed):
        refuse_newer(connection)
        unfinished = source_of_copy(connection)
        rows = first_table_with_rows(connection, moved_tables())
        head = _audit_head(connection)
    if unfinished:
        what = f"is an unfinished copy of {unfinished}; restore into another database"
        raise DatabaseNotEmpty(f"{parsed.render_as_string()} {what}")
    if rows and not options.replace:
        raise DatabaseNotEmpty(
            f"{parsed.render_as_string()} has rows already, such as in {rows}. --replace replaces all of them"
        )
    return head


def _audit_head(connection: Connection) -> dict[str, Any] | None:
    with explained(connection.engine.url):
        head = stored_head(connection) if inspect(connection).has_table("audit_head") else None
    return None if head is None else {"audit_rows": head.rows, "audit_hash": head.hash}


@contextmanager
def _copy_to_upgrade(url: str) -> Iterator[Path]:
    """Yield the path of a new file: beside a SQLite target, so that it can take its place, otherwise in a folder."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        with tempfile.TemporaryDirectory(prefix="zap-restore-") as folder:
            yield Path(folder) / "restored.sqlite"
        return
    target = Path(str(parsed.database)).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f"{target.name}.restored")
    try:
        yield copy
    finally:
        remove_database(copy)


def _checked_copy(file: Path, copy: Path, progress: Progress) -> RestoreReport:
    new_private_file(copy)
    try:
        copy_pages(str(file), copy, progress, "copying")
    except sqlite3.DatabaseError as error:
        raise DamagedBackup(f"{file}: {error}") from error
    check_pages(copy, file)
    try:
        known_revision(url_of_file(copy))
    except DatabaseBehind:
        raise DamagedBackup(f"{file} is not a backup of a database of zap: it has no revision") from None
    odd = OddCells(sqlite=True, refuses=False)
    with reading(url_of_file(copy)) as connection:
        if (source := source_of_copy(connection)) is not None:
            # It lacks rows and triggers, and no server would use the restored database.
            raise DamagedBackup(
                f"{file} is an unfinished copy of {source}; finish it with `zap db copy --finish`, or name another file"
            )
        facts = read_facts(connection)
        digests = database_digests(connection, tables_there(connection), odd.treat, progress, "checking")
    if facts is not None:
        _compare(file, facts, digests)
        return RestoreReport(facts.made_at, digests)
    return RestoreReport(None, digests, [f"{file.name} was not made by `zap db backup`, so it says no hashes"])


def _compare(file: Path, facts: BackupFacts, digests: dict[str, TableDigest]) -> None:
    found = {name: (digest.rows, digest.shown) for name, digest in digests.items()}
    differing = [name for name, expected in facts.tables.items() if found.get(name) != expected]
    if differing:
        raise DamagedBackup(f"{file}: the rows of {', '.join(differing)} have changed since the backup was made")


def _notes(copy: Path) -> list[str]:
    with reading(url_of_file(copy)) as connection:
        return [finding.sentence for finding in changed_artefacts(connection)]


def _put_file(copy: Path, url: str) -> None:
    """Put a file in the place of the SQLite file. Ids that the old file has given are not given again."""
    target = Path(str(make_url(url).database)).resolve()
    if not target.exists():
        put_in_place(copy, target)
        return
    tables = moved_tables()
    # A damaged file can be replaced too: it says no ids.
    with contextlib.suppress(DatabaseUnavailable), reading(url) as connection:
        given = positions(connection, tables)
        with writing(url_of_file(copy)) as engine, engine.begin() as new:
            move_sequences(new, tables, given)
    like(target, copy)
    with alone_on_file(target):
        # The WAL of a damaged file must not stay beside another file.
        for ending in ("-wal", "-shm"):
            Path(f"{target}{ending}").unlink(missing_ok=True)
        put_in_place(copy, target)


def _put_rows(copy: Path, url: str, report: Report, progress: Progress) -> None:
    odd, tables = OddCells(sqlite=False, refuses=False), moved_tables()
    with reading(url_of_file(copy)) as connection:
        database_digests(connection, tables, odd.treat, progress, "checking for PostgreSQL")
        findings = [finding.sentence for finding in (*odd.unreadable(), *rows_without_parents(connection, tables))]
    if findings:
        raise UnsoundDatabase(
            "PostgreSQL cannot hold some rows of the backup:\n- " + "\n- ".join(findings), findings=findings
        )
    upgrade(url, report)
    with reading(url_of_file(copy)) as source, writing(url) as target:
        refill(source, target, tables, OddCells(sqlite=False, refuses=True).treat, progress)
    # This makes the triggers.
    upgrade(url)
