"""The erasure of a driver: everything that zap holds of the driver, in one transaction, and a ledger that says so.

The follower reads all answers first, because its outcomes are the index from the driver to the answers. A request of
the driver that is answered meanwhile is a new one: its row is logged after the erasure, and stays.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from zap.actor import ACTOR
from zap.db.audit import note
from zap.db.engine import database_now, write_transaction
from zap.db.erasure.driver_rows import OtherRequests, other_requests, rows_of_driver, vehicles_of
from zap.db.erasure.erasure_key import FILE_NAME, ErasureKey, new_key, stored_key
from zap.db.erasure.learned_versions import ERASED_AGAIN, running_trainings, versions_that_learned
from zap.db.erasure.ledger import Entry, add_entries, ledger_file, read_ledger, write_file
from zap.db.erasure.remains import names_of_databases, overwrite_remains
from zap.db.erasure.removal import remove_rows, starts_of, stop_follower
from zap.db.history.drivers import named_drivers
from zap.db.history.history_rows import take_turn
from zap.db.monitoring.follower_lease import may_follow
from zap.db.monitoring.log_portion import newest_id
from zap.db.monitoring.trial_predictions import read_until
from zap.db.versions.promotions import serving_version
from zap.errors import DatabaseUnavailable, FollowerBehind, NoErasureKey, NotFound, UnusableFile
from zap.flows.looking_back import new_follower
from zap.sentences import say, say_many
from zap.settings import Settings

log = structlog.get_logger(__name__)

# How long the erasure waits for the follower.
_FOLLOWED_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
# How many of the newest answers the follower may lack when the wait is over: the erasure reads them itself.
_NOT_READ = 10_000
# What a message shows of an id.
_SHOWN_CHARACTERS = 100


@dataclass
class ErasureReport:
    """The report of an erasure.

    Attributes:
        erased_at: when the driver was erased.
        counts: for each table how many rows were removed, or changed so that the driver is no longer in them.
        versions: the model versions that may have learned from the driver.
        running_training: the training that runs, and may have read the driver's sessions; None if none runs.
        other_databases: the names of other SQLite files beside the database, which may hold the driver.
        wal_is_empty, places_in_file, rewritten: as in `Remains`.
        notes: what people should do, in sentences.
    """

    erased_at: datetime
    counts: Mapping[str, int]
    versions: Sequence[int]
    running_training: int | None = None
    other_databases: Sequence[str] = ()
    wal_is_empty: bool = True
    places_in_file: int | None = 0
    rewritten: bool = False
    notes: list[str] = field(default_factory=list)


def erase_driver(engine: Engine, settings: Settings, user_id: str, *, rewrite: bool = False) -> ErasureReport:
    """Erase a driver.

    Args:
        engine: on a database at head.
        settings: the key of erasures, and where files are.
        user_id: the driver as somebody has written the id.
        rewrite: whether to rewrite the whole SQLite file afterwards, also if the driver was erased before.

    Raises:
        NotFound: zap holds nothing of such a driver; the message says if the driver was erased before.
        FollowerBehind: the follower does not catch up in time. Nothing was changed.
        NoErasureKey: earlier erasures were noted with another key. Nothing was changed.
        DatabaseUnavailable: the file of the ledger cannot be written. Nothing was changed.
        SQLAlchemyError: another writer took too long. Nothing was changed.
    """
    check_id(user_id)
    catch_up(engine, settings)
    key = key_of(engine, settings)
    with engine.connect() as connection:
        # Before the transaction, because requests wait for it on SQLite.
        named = _named(connection, user_id)
        others = other_requests(connection, named, vehicles_of(connection, named))
    try:
        with write_transaction(engine) as connection:
            take_turn(connection)
            entry, trainings = erase_in(connection, key, _named(connection, user_id), others)
            _write_ledger(connection, settings)
    except NotFound:
        if rewrite:
            overwrite_remains(engine, named, rewrite=True)
        raise
    left = overwrite_remains(engine, named, rewrite=rewrite)
    report = ErasureReport(
        entry.erased_at,
        {name: count for name, count in entry.counts.items() if count},
        entry.versions,
        trainings[0] if trainings else None,
        databases_beside(settings),
        left.wal_is_empty,
        left.places,
        left.rewritten,
    )
    report.notes = _notes(report)
    return report


def _write_ledger(connection: Connection, settings: Settings) -> None:
    """Write the ledger into the file beside a SQLite database, as the last step before the commit.

    No other erasure can write the file meanwhile. If the commit fails, the file says more than the database, and
    `zap check` says so.

    Raises:
        DatabaseUnavailable: the file cannot be written, so nothing may be erased.
    """
    file = ledger_file(settings.database_url)
    if file is None:
        return
    try:
        write_file(file, read_ledger(connection))
    except (OSError, UnusableFile) as error:
        log.error("the ledger beside the database cannot be written", error=str(error))
        raise DatabaseUnavailable(
            say("the file of the ledger beside the database cannot be used; the log says why. Nothing was erased")
        ) from error


def erase_in(
    connection: Connection, key: ErasureKey, user_id: str, others: OtherRequests, again: Entry | None = None
) -> tuple[Entry, list[int]]:
    """Erase a driver in a transaction, and add the erasure to the ledger.

    Args:
        connection: a transaction that writes, and that has changed nothing of the driver.
        key: the key of erasures.
        user_id: the driver as the database has the id.
        others: as in `rows_of_driver`.
        again: the erasure of an older database that is done again; None for a new one.

    Returns:
        The entry of the ledger, and the training that runs.

    Raises:
        NotFound: there is nothing of the driver.
    """
    stop_follower(connection)
    rows = rows_of_driver(connection, user_id, others)
    driver_hash = key.hash_of(user_id)
    if rows.are_none:
        raise _nothing_of(connection, user_id, driver_hash)
    starts = starts_of(connection, rows.sessions)
    trainings, versions = running_trainings(connection), versions_that_learned(connection, starts)
    # A promotion changes the rows of two versions, in another order: without this lock, one of both would fail.
    serving_version(connection)
    counts = remove_rows(connection, rows)
    entry = again or Entry(database_now(connection), ACTOR.get().name, driver_hash, key.key_id, counts, versions)
    add_entries(connection, [entry])
    found = {"rows": sum(counts.values()), "versions": versions, "trainings": trainings}
    note(connection, ERASED_AGAIN if again else "driver.erase", f"driver {driver_hash}", before=found)
    return entry, trainings


def catch_up(engine: Engine, settings: Settings) -> None:
    """Wait until the follower has read all answers that are logged now; follow if no other process does.

    It does not wait for ids that the follower has not found: on PostgreSQL they belong to a transaction that was
    undone, or to one that still runs, whose requests are new ones. The erasure reads all requests that the follower has
    not read.

    Raises:
        FollowerBehind: it takes too long.
    """
    until = time.monotonic() + _FOLLOWED_SECONDS
    with engine.connect() as connection:
        newest = newest_id(connection)
    following = new_follower(engine, settings) if may_follow(engine) else None
    try:
        while True:
            with engine.connect() as connection:
                left = newest - read_until(connection)
            if left <= 0:
                return
            if time.monotonic() >= until:
                if left <= _NOT_READ:
                    # The answers that it lacks are read by the erasure.
                    return
                raise FollowerBehind(
                    say("the follower has not read {left:,} rows of the log yet; erase the driver later", left=left)
                )
            if following is None or not following.look(lambda: time.monotonic() >= until):
                time.sleep(_PAUSE_SECONDS)
    finally:
        if following is not None:
            following.close()


def key_of(engine: Engine, settings: Settings) -> ErasureKey:
    """Return the key of erasures. The first erasure or export makes its file.

    Raises:
        NoErasureKey: there is no key, or the file has another key than the one of earlier erasures.
    """
    with engine.connect() as connection:
        ledger = read_ledger(connection)
    key = key_if_any(settings)
    known = {entry.key_id for entry in ledger}
    if key is None and not known:
        return new_key(settings.models_dir)
    if key is None or (known and key.key_id not in known and settings.erasure_key is None):
        raise NoErasureKey(
            say(
                "the key of earlier erasures is not in ZAP_ERASURE_KEY, and not in the file {name} of ZAP_MODELS_DIR;"
                " put it back. If it is lost, set ZAP_ERASURE_KEY to a new key: then a restored backup may bring back"
                " the drivers who were erased with the lost key",
                name=FILE_NAME,
            )
        )
    return key


def key_if_any(settings: Settings) -> ErasureKey | None:
    """Return the key of erasures; None if there is none.

    Raises:
        NoErasureKey: its file holds no key.
    """
    setting = settings.erasure_key.get_secret_value() if settings.erasure_key else None
    return stored_key(setting, settings.models_dir)


def check_id(user_id: str) -> None:
    """Raise NotFound for a text that no database can hold as the id of a driver."""
    if not user_id.strip() or "\0" in user_id or any("\ud800" <= one <= "\udfff" for one in user_id):
        raise NotFound(say("no driver can have the id {user_id!r}", user_id=user_id[:_SHOWN_CHARACTERS]))


def _named(connection: Connection, user_id: str) -> str:
    return named_drivers(connection, [user_id]).get(user_id, user_id)


def _nothing_of(connection: Connection, user_id: str, driver_hash: str) -> NotFound:
    shown = user_id[:_SHOWN_CHARACTERS]
    before = [entry.erased_at for entry in read_ledger(connection) if entry.driver_hash == driver_hash]
    if before:
        return NotFound(
            say(
                "driver {user_id!r} was erased already, at {at}",
                user_id=shown,
                at=max(before).isoformat(" ", "seconds"),
            )
        )
    return NotFound(say("zap holds nothing of a driver {user_id!r}", user_id=shown))


def databases_beside(settings: Settings) -> list[str]:
    """Return the names of the other SQLite files that may hold a driver: beside the database and in ZAP_MODELS_DIR."""
    database = settings.url.database if settings.url.get_backend_name() == "sqlite" else None
    return names_of_databases(str(database), [settings.models_dir]) if database else []


def _notes(report: ErasureReport) -> list[str]:
    notes: list[str] = []
    if report.versions:
        numbers = ", ".join(map(str, report.versions))
        notes.append(
            say_many(
                "{n} version may have learned from this driver ({numbers}): train again to get a version that has not",
                "{n} versions may have learned from this driver ({numbers}): train again to get a version that has not",
                len(report.versions),
                numbers=numbers,
            )
        )
    if report.running_training is not None:
        notes.append(
            say(
                "training {run} runs and may have read the driver's sessions: cancel it, or train again after it",
                run=report.running_training,
            )
        )
    if report.other_databases:
        notes.append(
            say(
                "these files may still hold the driver: {names}. Remove them; `zap db restore` erases the driver"
                " again if it restores one of them",
                names=", ".join(report.other_databases),
            )
        )
    if not report.wal_is_empty:
        notes.append(say("another program reads the database, so the WAL is not empty yet; SQLite empties it later"))
    if report.places_in_file is None:
        notes.append(
            say(
                "the file could not be searched for unused bytes with the id: run `zap drivers erase --rewrite` in a"
                " quiet hour"
            )
        )
    elif report.places_in_file:
        notes.append(
            say(
                "unused bytes of the file still have the id at {places:,} places: run VACUUM in a quiet hour, or"
                " `zap drivers erase --rewrite`",
                places=report.places_in_file,
            )
        )
    return notes


def as_plain(report: ErasureReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {**report.__dict__, "erased_at": report.erased_at.isoformat(), "counts": dict(report.counts)}
