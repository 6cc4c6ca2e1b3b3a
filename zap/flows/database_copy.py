"""The copy of a whole database into another one, in parts while servers write, and its end while nothing writes."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, Table, make_url

from zap.db.engine import create_engine
from zap.db.moving.broken_rows import Finding, rows_without_parents
from zap.db.moving.connections import explained, reader, reading, set_journal, snapshot, url_of_file
from zap.db.moving.copy_turn import filling, frozen
from zap.db.moving.database_digests import database_digests
from zap.db.moving.database_users import refuse_users
from zap.db.moving.moved_tables import LOGS, first_table_with_rows, moved_tables, tables_of_others
from zap.db.moving.noted import note_now
from zap.db.moving.odd_cells import OddCells
from zap.db.moving.sequences import move_sequences, positions
from zap.db.moving.settled_rows import read_settled, write_settled
from zap.db.moving.table_copy import CopiedTable, Place, TableCopy, Target, copying_into
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.table_rows import TableRows
from zap.db.moving.unfinished_copy import begin_copy, end_copy, source_of_copy
from zap.db.schema import Report, check_at_head, refuse_newer, silent, upgrade
from zap.db.triggers import drop_triggers
from zap.errors import DatabaseNotEmpty, InvalidSettings, UnsoundDatabase
from zap.progress import Progress, no_progress

_STOP = (
    "Stop all servers and other programs that use it, then try again. With --force the connections do not matter: use"
    " this only if they do not write"
)


@dataclass
class CopyReport:
    """What a copy has done.

    Attributes:
        source: the URL of the source, without its password.
        target: the URL of the target, without its password.
        finished: whether the target can be used now.
        tables: what was done to each table.
        notes: what people should know about single values and tables.
    """

    source: str
    target: str
    finished: bool
    tables: list[CopiedTable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CopyOptions:
    """How to copy.

    Attributes:
        finish: whether to end the copy: nothing may write into the source any more.
        force: whether other connections to the databases do not matter.
        compare_all: whether to compare also the rows of the log that an earlier part has compared.
    """

    finish: bool = False
    force: bool = False
    compare_all: bool = False


def copy_database(
    source: str, target: str, options: CopyOptions, progress: Progress = no_progress, report: Report = silent
) -> CopyReport:
    """Copy all tables of a database into an empty database, or go on with an earlier copy of this source.

    Before the end, servers may write into the source, and each call copies what is new. A server refuses the target as
    long as the copy is not finished.

    Args:
        source: the URL of a database at head.
        target: the URL of another database.
        options: how to copy.
        progress: called with "checking", and with "copying" and the name of each table (in rows).
        report: called with each line of an upgrade of the target.

    Raises:
        DatabaseBehind, DatabaseAhead: the source is not at head.
        DatabaseNotEmpty: the target has rows, and is no unfinished copy of the source.
        DatabaseInUse: another program uses the target or, at the end, the source.
        UnsoundDatabase: the target cannot take some rows, or source and target differ in the end.
    """
    _refuse_one_database(source, target)
    _check_source(source)
    shown = _shown(source), _shown(target)
    tables, to_sqlite = moved_tables(), make_url(target).get_backend_name() == "sqlite"
    odd = OddCells(sqlite=to_sqlite, refuses=True)
    done = CopyReport(*shown, finished=options.finish)
    if not options.force:
        refuse_users(target, _STOP)
        if options.finish:
            refuse_users(source, _STOP)
    begun = _refuse_used_target(target, shown[0], tables)
    # Now, because nothing may be written at the end. The row is copied too.
    note_now(source, "database.copy", "database", {"to": shown[1], "finish": options.finish})
    with filling(target):
        if not begun:
            if not to_sqlite:
                _refuse_unmovable(source, tables, progress)
            upgrade(target, report)
        # What the readers of the source raise is explained already.
        with copying_into(target) as engines, reader(source) as ours, explained(make_url(target)):
            _prepare(engines.write, shown[0], tables, begun=begun)
            part = _Part(ours, engines, odd, options.compare_all, progress)
            with frozen(source, tables) if options.finish else nullcontext():
                done.tables += map(part.copy, tables)
                if options.finish:
                    _finish(ours, engines.write, tables)
        if options.finish:
            # This makes the triggers.
            upgrade(target)
    done.notes = _notes(source, odd)
    return done


def _shown(url: str) -> str:
    """Return a URL without its password. A SQLite file has one URL, whatever folder the command runs in."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not str(parsed.database).startswith("file:"):
        return url_of_file(Path(str(parsed.database)).resolve())
    return parsed.render_as_string()


def _check_source(source: str) -> None:
    engine = create_engine(source)
    try:
        check_at_head(engine)
        with engine.connect() as connection:
            refuse_newer(connection)
    finally:
        engine.dispose()


def _refuse_one_database(source: str, target: str) -> None:
    places = []
    for url in (source, target):
        if make_url(url).get_backend_name() == "sqlite":
            places.append(str(Path(str(make_url(url).database)).resolve()))
        else:
            with reading(url) as connection, explained(make_url(url)):
                asked = "SELECT current_database() || ' ' || pg_postmaster_start_time()"
                places.append(str(connection.exec_driver_sql(asked).scalar_one()))
    if places[0] == places[1]:
        raise InvalidSettings(f"--to: {make_url(target).render_as_string()} is the database that is to be copied")


def _refuse_used_target(target: str, source: str, tables: Sequence[Table]) -> bool:
    """Return whether the target is an unfinished copy of the source.

    Raises:
        DatabaseNotEmpty: it has rows, or is an unfinished copy of another database.
    """
    url = make_url(target)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return False
    with reading(target) as connection, explained(url):
        earlier = source_of_copy(connection)
        rows = None if earlier else first_table_with_rows(connection, tables)
        refuse_newer(connection)
    if earlier == source or (earlier is None and rows is None):
        return earlier is not None
    what = f"is an unfinished copy of {earlier}" if earlier else f"has rows already, such as in {rows}"
    raise DatabaseNotEmpty(f"{url.render_as_string()} {what}. Copy into a new, empty database")


def _refuse_unmovable(source: str, tables: Sequence[Table], progress: Progress) -> None:
    """Read the whole source once, before anything is copied.

    Raises:
        UnsoundDatabase: PostgreSQL cannot hold some rows. The message names them.
    """
    odd = OddCells(sqlite=False, refuses=False)
    with reading(source) as connection:
        database_digests(connection, tables, odd.treat, progress, "checking")
        _refuse([*odd.unreadable(), *rows_without_parents(connection, tables)])


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        sentences = [finding.sentence for finding in findings]
        raise UnsoundDatabase(
            "PostgreSQL cannot hold some rows. Correct or remove them, then copy again:\n- " + "\n- ".join(sentences),
            findings=sentences,
        )


def _prepare(target: Engine, source: str, tables: Sequence[Table], *, begun: bool) -> None:
    set_journal(target, "WAL")
    with explained(target.url), target.begin() as connection:
        if not begun:
            begin_copy(connection, source, tables)
        drop_triggers(connection)


@dataclass(frozen=True)
class _Part:
    """One part of a copy: what the copies of its tables share."""

    source: Engine
    target: Target
    odd: OddCells
    compare_all: bool
    progress: Progress

    def copy(self, table: Table) -> CopiedTable:
        """Make the table of the target equal to the table of the source, and report the progress."""
        what = f"copying {table.name}"
        with snapshot(self.source) as connection:
            total = TableRows(connection, table, self.odd.treat).count()
            if total:
                self.progress(what, 0, total)
            skips = table.name in LOGS and not self.compare_all
            settled = read_settled(connection, self.target.write, table) if skips else None
            begin = settled or Place(None, TableDigest())
            copied = TableCopy(
                connection, self.target, table, self.odd.treat, lambda rows: self.progress(what, rows, total)
            ).run(begin)
        if table.name in LOGS:
            write_settled(self.target.write, table, copied.settled)
        if total:
            self.progress(what, total, total)
        return copied


def _finish(source: Engine, target: Engine, tables: Sequence[Table]) -> None:
    """Let ids go on, make the foreign keys again, and let servers use the target."""
    with snapshot(source) as connection:
        if target.dialect.name != "sqlite":
            _refuse([*rows_without_parents(connection, tables)])
        given = positions(connection, tables)
    with explained(target.url), target.begin() as connection:
        move_sequences(connection, tables, given)
        end_copy(connection)
        if connection.dialect.name != "sqlite":
            # Without statistics, PostgreSQL would read whole tables at first.
            connection.exec_driver_sql("ANALYZE")


def _notes(source: str, odd: OddCells) -> list[str]:
    with reading(source) as connection:
        others = tables_of_others(connection)
    notes = [f"{finding.table}: {finding.what}, such as {finding.examples[0]}" for finding in odd.rewritten()]
    if others:
        notes.append(f"tables of other programs are not copied: {', '.join(others)}")
    return notes
