"""Erase drivers and end keys again in the copy of a backup, before the copy is restored.

The database that is replaced says which drivers were erased, and which keys ended, after the backup was made.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, make_url

from zap.db.engine import create_engine, write_transaction
from zap.db.erasure.erasure_key import ErasureKey
from zap.db.erasure.ledger import add_entries, read_ledger
from zap.db.erasure.remains import rewrite_file
from zap.db.moving.connections import explained, reading, set_journal, url_of_file, writing
from zap.db.restored_keys import KnownEnd, end_again, read_ends
from zap.errors import DatabaseUnavailable, NoErasureKey
from zap.flows.erasure_again import erase_again, ledgers_beside
from zap.progress import Progress


def erase_since_backup(
    copy: Path, url: str, key: ErasureKey | None, progress: Progress, *, keeps: bool = False
) -> list[str]:
    """Erase in a copy of a backup the drivers who were erased after the backup was made, and return notes about this.

    The ledger of the database that is replaced says who they are; on SQLite also the file of the ledger beside it.

    Args:
        copy: the file, with a schema at head.
        url: of the database that will be replaced.
        key: the key of erasures; None if there is none.
        progress: called with "erasing again" (in drivers).
        keeps: whether drivers who were erased with another key may come back.

    Raises:
        NoErasureKey: the drivers were erased with a key that is not here, and may not come back.
    """
    newer = ledgers_beside(url)
    # A damaged file can be replaced too: it names no erasures.
    with contextlib.suppress(DatabaseUnavailable), reading(url) as connection, explained(make_url(url)):
        newer += read_ledger(connection)
    notes = []
    with _upgraded(copy) as engine:
        try:
            done = erase_again(engine, newer, key, progress)
        except NoErasureKey:
            if not keeps:
                raise
            # Only the drivers who cannot be found come back.
            done = erase_again(engine, [one for one in newer if key and one.key_id == key.key_id], key, progress)
            with write_transaction(engine) as connection:
                known = {entry.same for entry in read_ledger(connection)}
                add_entries(connection, {entry.same: entry for entry in newer if entry.same not in known}.values())
            notes.append("drivers who were erased after the backup was made, with a key that is not here, are back")
    if done.drivers:
        # The rows of these drivers must not stay in unused bytes of the file.
        rewrite_file(copy)
        s = "s" * (done.drivers != 1)
        notes.append(f"{done.drivers:,} driver{s} erased after the backup was made: erased again")
    return notes


def end_since_backup(copy: Path, url: str) -> list[str]:
    """End in a copy of a backup the keys that ended after the backup was made, and return notes about this.

    Args:
        copy: the file, with a schema at head.
        url: of the database that will be replaced.
    """
    ends: dict[str, KnownEnd] = {}
    # A damaged file can be replaced too: it names no ends of keys.
    with contextlib.suppress(DatabaseUnavailable), reading(url) as connection, explained(make_url(url)):
        ends = read_ends(connection)
    with _upgraded(copy) as engine:
        return end_again(engine, ends)


@contextlib.contextmanager
def _upgraded(copy: Path) -> Iterator[Engine]:
    """Yield an engine on the copy, at head, that writes as servers do. After it, the copy is one file again."""
    engine = create_engine(url_of_file(copy))
    try:
        yield engine
    finally:
        engine.dispose()
        with writing(url_of_file(copy)) as writer:
            set_journal(writer, "DELETE")
