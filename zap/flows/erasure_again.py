"""Erase drivers again in a database that is older than their erasure, such as a restored backup."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine, select

from zap.db.engine import write_transaction
from zap.db.erasure.driver_rows import OtherRequests, other_requests, unindexed_requests, vehicles_of
from zap.db.erasure.erasure_key import ErasureKey
from zap.db.erasure.ledger import Entry, add_entries, ledger_file, read_file, read_ledger
from zap.db.history.drivers import named_drivers
from zap.db.history.history_rows import SESSIONS, USERS, VEHICLES, in_parts, take_turn
from zap.db.monitoring_tables import Outcome
from zap.errors import NoErasureKey, UnusableFile
from zap.flows.driver_erasure import erase_in
from zap.progress import Progress, no_progress
from zap.sentences import say

_OUTCOMES = Outcome.__table__  # type: ignore[attr-defined]


class ErasedAgain(NamedTuple):
    """The drivers that were erased again, and the erasures that the ledger lacked."""

    drivers: int
    entries: int


def erase_again(
    engine: Engine, newer: Iterable[Entry], key: ErasureKey | None, progress: Progress = no_progress
) -> ErasedAgain:
    """Erase the drivers that a newer ledger has and the database does not have in its own ledger yet.

    The database is older than these erasures, so it may have rows of the drivers. Each driver is one transaction.

    Args:
        engine: on a database at head.
        newer: the erasures of a newer ledger.
        key: the key of erasures; None if there is none.
        progress: called with "erasing again" (in drivers).

    Raises:
        NoErasureKey: the drivers were erased with another key. Nothing was changed.
    """
    with engine.connect() as connection:
        known = {entry.same for entry in read_ledger(connection)}
        missing = {entry.same: entry for entry in newer if entry.same not in known}
        left = list(missing.values())
        if not left:
            return ErasedAgain(0, 0)
        if key is None or any(entry.key_id != key.key_id for entry in left):
            raise NoErasureKey(
                say(
                    "{count:,} drivers were erased after this database was made, with a key that is not here. Set"
                    " ZAP_ERASURE_KEY to this key, or put its file into ZAP_MODELS_DIR",
                    count=len(left),
                )
            )
        found = _drivers(connection, key, {entry.driver_hash for entry in left})
    for number, (user_id, others) in enumerate(found.items(), 1):
        theirs = [entry for entry in left if entry.driver_hash == key.hash_of(user_id)]
        with write_transaction(engine) as connection:
            take_turn(connection)
            erase_in(connection, key, user_id, others, again=theirs[-1])
            add_entries(connection, theirs[:-1])
        progress("erasing again", number, len(found))
    erased = {key.hash_of(user_id) for user_id in found}
    with write_transaction(engine) as connection:
        add_entries(connection, [entry for entry in left if entry.driver_hash not in erased])
    return ErasedAgain(len(found), len(left))


def ledgers_beside(url: str, file: Path | None = None) -> list[Entry]:
    """Return the erasures in the file of the ledger beside a SQLite database, and in another file.

    Raises:
        UnusableFile: the other file does not exist, or a file is no ledger.
    """
    if file is not None and not file.is_file():
        raise UnusableFile(f"there is no file {file}")
    files = [one for one in (ledger_file(url), file) if one is not None]
    return [*chain.from_iterable(map(read_file, files))]


def _drivers(connection: Connection, key: ErasureKey, hashes: set[str]) -> dict[str, OtherRequests]:
    """Return the drivers of the database whose hashes are among these, with their requests that no index has."""
    found = dict.fromkeys(one for one in _ids(connection) if key.hash_of(one) in hashes)
    return {one: other_requests(connection, one, vehicles_of(connection, one)) for one in found}


def _ids(connection: Connection) -> Iterator[str]:
    """Yield the ids of all drivers that the database holds, also of drivers that only requests have named."""
    for column in (USERS.c.user_id, VEHICLES.c.user_id, SESSIONS.c.user_id, _OUTCOMES.c.user_id):
        for user_id in connection.scalars(select(column).where(column.is_not(None)).distinct()):
            yield str(user_id)
    for _, requests in unindexed_requests(connection):
        names: Sequence[str] = sorted({one.user_id for one in requests.values() if one.user_id is not None})
        for some in in_parts(names):
            plain = named_drivers(connection, some)
            yield from (plain.get(one, one) for one in some)
