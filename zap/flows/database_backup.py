"""The backup of a whole database to one file, while servers write."""

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Table, make_url

from zap.db.engine import create_engine
from zap.db.moving.backup_file import (
    check_pages,
    copy_pages,
    new_private_file,
    now_as_text,
    put_in_place,
    remove_database,
    write_facts,
)
from zap.db.moving.connections import explained, reading, set_journal, url_of_file, writing
from zap.db.moving.database_digests import database_digests, tables_there
from zap.db.moving.moved_tables import moved_tables, tables_of_others
from zap.db.moving.noted import note_now
from zap.db.moving.odd_cells import OddCells
from zap.db.moving.sequences import move_sequences, positions
from zap.db.moving.table_copy import CopiedTable, Place, TableCopy, Target, copying_into
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.table_rows import TableRows
from zap.db.schema import check_at_head, known_revision, upgrade
from zap.db.triggers import drop_triggers
from zap.errors import UnusableFile
from zap.progress import Progress, no_progress


@dataclass
class BackupReport:
    """What a backup holds.

    Attributes:
        file: the file.
        bytes: its size.
        tables: the digest of each table.
        notes: what people should know about single values and tables.
    """

    file: Path
    bytes: int
    tables: dict[str, TableDigest]
    notes: list[str] = field(default_factory=list)


def back_up(url: str, file: Path, progress: Progress = no_progress) -> BackupReport:
    """Write one snapshot of a database to a file, which an engine of either kind can be restored from.

    Until the backup is complete, the name of its file ends in `.part`. An existing file is replaced then. The audit of
    the database says that there is a backup; the backup does not have this row.

    Args:
        url: of the database. On SQLite it may be older than this zap.
        file: the file of the backup.
        progress: called with the phases.

    Raises:
        DatabaseUnavailable: the database cannot be read, or takes no row of the audit.
        DatabaseBehind: a database on PostgreSQL is older than this zap.
        DamagedBackup: the SQLite file is damaged.
        UnusableFile: the file is the database itself.
    """
    parsed, part, made_at = make_url(url), file.with_name(f"{file.name}.part"), now_as_text()
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and file.resolve() == Path(str(parsed.database)).resolve():
        raise UnusableFile(f"{file} is the database itself; name another file for the backup")
    new_private_file(part)
    try:
        digests, notes = _of_sqlite(url, part, progress) if sqlite else _of_postgresql(url, part, progress)
        write_facts(part, parsed.get_backend_name(), made_at, digests)
        # Before the file has its name: there is no backup without this row.
        note_now(url, "database.backup", f"file {file.name}", {"rows": sum(one.rows for one in digests.values())})
        put_in_place(part, file)
    except BaseException:
        remove_database(part)
        raise
    return BackupReport(file, file.stat().st_size, digests, notes)


def _of_sqlite(url: str, part: Path, progress: Progress) -> tuple[dict[str, TableDigest], list[str]]:
    parsed = make_url(url)
    known_revision(url)
    with explained(parsed):
        copy_pages(str(parsed.database), part, progress, "copying")
    check_pages(part, part)
    odd = OddCells(sqlite=True, refuses=False)
    with reading(url_of_file(part)) as connection:
        digests = database_digests(connection, tables_there(connection), odd.treat, progress, "checking")
    return digests, [finding.sentence for finding in odd.unreadable()]


def _of_postgresql(url: str, part: Path, progress: Progress) -> tuple[dict[str, TableDigest], list[str]]:
    """Copy one snapshot of PostgreSQL into a SQLite database with zap's schema."""
    engine = create_engine(url)
    try:
        check_at_head(engine)
    finally:
        engine.dispose()
    here, tables, digests = url_of_file(part), moved_tables(), {}
    odd = OddCells(sqlite=True, refuses=True)
    upgrade(here)
    with reading(url) as source, copying_into(here) as target:
        # The file is read while it is written.
        set_journal(target.write, "WAL")
        with target.write.begin() as connection:
            drop_triggers(connection)
        for table in tables:
            copied = _copy_table(source, target, table, odd, progress)
            digests[table.name] = TableDigest(copied.rows, int(copied.digest, 16))
        with target.write.begin() as connection:
            move_sequences(connection, tables, positions(source, tables))
        others = tables_of_others(source)
    # This makes the triggers.
    upgrade(here)
    with writing(here) as target:
        set_journal(target, "DELETE")
    notes = [f"{finding.table}: {finding.what}, such as {finding.examples[0]}" for finding in odd.rewritten()]
    if others:
        notes.append(f"tables of other programs are not in the backup: {', '.join(others)}")
    return digests, notes


def _copy_table(source: Connection, target: Target, table: Table, odd: OddCells, progress: Progress) -> CopiedTable:
    what, total = f"copying {table.name}", TableRows(source, table, odd.treat).count()
    if total:
        progress(what, 0, total)
    copied = TableCopy(source, target, table, odd.treat, lambda rows: progress(what, rows, total)).run(
        Place(None, TableDigest())
    )
    if total:
        progress(what, total, total)
    return copied
