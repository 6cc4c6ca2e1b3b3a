"""The check of a whole database: pages, values, rows without their parents, ids, artefacts and the audit."""

import sqlite3
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from zap.db.audit_chain import verify
from zap.db.moving.broken_rows import Finding, changed_artefacts, rows_without_parents, sequences_behind
from zap.db.moving.connections import explained, reader, reading
from zap.db.moving.database_digests import database_digests, tables_there
from zap.db.moving.odd_cells import OddCells
from zap.db.moving.table_digest import TableDigest
from zap.db.triggers import lost_triggers, warnings_of
from zap.db.unusable import reason_of, unusable
from zap.progress import Progress, no_progress

_DAMAGED = text("PRAGMA integrity_check(20)")


@dataclass(frozen=True)
class CheckReport:
    """What a check has found.

    Attributes:
        tables: the digest of each table.
        findings: what is wrong.
        notes: what is unusual, but has a clear meaning.
    """

    tables: dict[str, TableDigest]
    findings: list[Finding]
    notes: list[Finding]


def check_database(url: str, progress: Progress = no_progress) -> CheckReport:
    """Read every value of a database once, while servers write.

    Args:
        url: of a database at head.
        progress: called with the phases.

    Raises:
        DatabaseUnavailable: the database cannot be read.
    """
    odd, findings = OddCells(sqlite=True, refuses=False), []
    progress("checking pages", 0, 1)
    with reading(url) as connection:
        findings += _damaged_pages(connection)
    progress("checking pages", 1, 1)
    if findings:
        # A damaged file cannot be read to its end.
        return CheckReport({}, findings, [])
    # Each part has a snapshot of its own, so that SQLite can empty its WAL in between.
    with reading(url) as connection:
        tables = tables_there(connection)
        digests = database_digests(connection, tables, odd.treat, progress, "checking rows")
    with reader(url) as engine, explained(engine.url):
        chain = verify(engine, progress=progress)
    if chain.why is not None:
        findings.append(Finding("audit", chain.why, 1, ()))
    progress("checking links", 0, 1)
    with reading(url) as connection:
        findings += odd.unreadable()
        findings += rows_without_parents(connection, tables)
        findings += sequences_behind(connection, tables)
        findings += changed_artefacts(connection)
        lost = warnings_of(lost_triggers(connection))
        findings += [Finding(table, warning, 0, ()) for table, warning in lost.items()]
    progress("checking links", 1, 1)
    return CheckReport(digests, findings, odd.rewritten())


def _damaged_pages(connection: Connection) -> list[Finding]:
    """Return what SQLite finds wrong in the pages of its file. PostgreSQL has no such check for every role."""
    if connection.dialect.name != "sqlite":
        return []
    found: list[str] = []
    try:
        found += map(str, connection.scalars(_DAMAGED))
    except DatabaseError as error:
        # The damage may be so great that the check cannot go on.
        if type(error.orig) is not sqlite3.DatabaseError:
            raise unusable(connection.engine.url, error) from error
        found.append(reason_of(error))
    return [] if found == ["ok"] else [Finding("the file", "SQLite found damage", len(found), tuple(found))]
