"""The ledger of erasures: its rows, and the copy of it that is in a file beside a SQLite database."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, insert, inspect, make_url, select

from zap.db.erasure_tables import Erasure
from zap.db.stored_json import Damaged
from zap.errors import UnusableFile

ERASURES: Table = Erasure.__table__  # type: ignore[attr-defined]
_COLUMNS = [column for column in ERASURES.columns if column.name != "erasure_id"]


class Entry(NamedTuple):
    """One erasure; the fields are columns of `erasures`."""

    erased_at: datetime
    who: str | None
    driver_hash: str
    key_id: str
    counts: Mapping[str, int]
    versions: Sequence[int]

    @property
    def same(self) -> tuple[str, datetime]:
        """Return the values that no other erasure has."""
        return self.driver_hash, self.erased_at

    def as_json(self) -> dict[str, Any]:
        """Return the entry as a line of a file has it."""
        return {**self._asdict(), "erased_at": self.erased_at.isoformat(), "counts": dict(self.counts)}


def add_entries(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add erasures to the ledger."""
    rows = [entry._asdict() for entry in entries]
    if rows:
        connection.execute(insert(ERASURES), rows)


def read_ledger(connection: Connection) -> list[Entry]:
    """Return all erasures, oldest first; none if the database is older than the ledger."""
    if not inspect(connection).has_table(ERASURES.name):
        return []
    rows = connection.execute(select(*_COLUMNS).order_by(ERASURES.c.erasure_id))
    return [
        Entry(
            row.erased_at,
            row.who,
            row.driver_hash,
            row.key_id,
            {} if isinstance(row.counts, Damaged) else row.counts,
            [] if isinstance(row.versions, Damaged) else row.versions or [],
        )
        for row in rows
        # Another program may have written a time that is none.
        if row.erased_at is not None
    ]


def ledger_size(connection: Connection) -> tuple[int, int]:
    """Return how many erasures there are, and the largest number of one. Both grow with each erasure."""
    count, newest = connection.execute(select(func.count(), func.max(ERASURES.c.erasure_id))).one()
    return count, newest or 0


def ledger_file(url: str) -> Path | None:
    """Return the file of the ledger beside a SQLite database, which stays if the database is replaced; None otherwise.

    Args:
        url: of the database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    database = Path(str(parsed.database)).resolve()
    return database.with_name(f"{database.name}.erasures")


def read_file(file: Path) -> list[Entry]:
    """Return the erasures in a file of a ledger; none if there is no such file.

    Raises:
        UnusableFile: a line is no erasure.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(f"{file}: {error}") from None
    return [_entry(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def write_file(file: Path, entries: Iterable[Entry]) -> int:
    """Write the ledger to a file that only its user can read, and return how many erasures it has then.

    An entry that only the file has stays in it.

    Raises:
        UnusableFile: the file is no ledger, its folder does not exist, or the disk is full.
    """
    known = {entry.same: entry for entry in (*read_file(file), *entries)}
    lines = [json.dumps(entry.as_json()) for entry in sorted(known.values(), key=lambda one: one.erased_at)]
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    if not file.parent.is_dir():
        raise UnusableFile(f"there is no folder {file.parent}")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as written:
            written.write("".join(f"{line}\n" for line in lines))
            written.flush()
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UnusableFile(f"{file}: {error.strerror or error}") from None
    return len(lines)


def _entry(file: Path, number: int, line: str) -> Entry:
    try:
        found = json.loads(line)
        entry = Entry(**{**found, "erased_at": datetime.fromisoformat(found["erased_at"]).astimezone(UTC)})
        if not isinstance(entry.driver_hash, str) or not isinstance(entry.key_id, str):
            raise TypeError("a hash is a text")
    except (TypeError, ValueError, KeyError) as error:
        raise UnusableFile(f"{file}: line {number} is no erasure of a ledger: {error}") from None
    return entry
