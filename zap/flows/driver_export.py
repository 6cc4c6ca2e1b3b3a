"""The export of all that zap holds of a driver: one ZIP with a file of NDJSON for each table, and a README."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec
from sqlalchemy import Connection, Engine

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.erasure.driver_rows import other_requests, rows_of_driver, vehicles_of
from zap.db.erasure.held_rows import COLUMNS, OTHERS, held_rows
from zap.db.history.drivers import named_drivers
from zap.db.moving.backup_file import new_private_file, put_in_place
from zap.db.tables import utc_now
from zap.errors import NotFound, UnusableFile
from zap.flows.driver_erasure import catch_up, check_id, key_of
from zap.progress import Progress, no_progress
from zap.sentences import say
from zap.settings import Settings

_encode = msgspec.json.Encoder(enc_hook=str).encode
_SHOWN_CHARACTERS = 100
_README = """What zap holds of driver {user_id!r}

Exported at {at} (UTC). zap predicts which type of charger fits a driver's next charging session.
Each file has one JSON object per line. A value that is not known is null.

{files}
zap also keeps sums over all drivers, such as the number of correct answers of a day. They name no driver.
"""


def export_driver(
    engine: Engine, settings: Settings, user_id: str, out: IO[bytes], progress: Progress = no_progress
) -> Mapping[str, int]:
    """Write all that is held of a driver as a ZIP, and note this in the audit. Only one portion of rows is in memory.

    Args:
        engine: on a database at head.
        settings: of the follower, which reads all answers first.
        user_id: the driver as somebody has written the id.
        out: where the ZIP is written.
        progress: called with "exporting" (in tables).

    Returns:
        The number of rows by table.

    Raises:
        NotFound: zap holds nothing of such a driver.
        FollowerBehind: the follower does not catch up in time.
        NoErasureKey: the key with which the audit names drivers is missing.
    """
    check_id(user_id)
    catch_up(engine, settings)
    counts: dict[str, int] = {}
    with _snapshot(engine) as connection, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        named = named_drivers(connection, [user_id]).get(user_id, user_id)
        rows = rows_of_driver(connection, named, other_requests(connection, named, vehicles_of(connection, named)))
        if rows.are_none:
            raise NotFound(say("zap holds nothing of a driver {user_id!r}", user_id=user_id[:_SHOWN_CHARACTERS]))
        for number, held in enumerate(held_rows(connection, rows), 1):
            counts[held.name] = 0
            with zipped.open(_file(held.name), "w", force_zip64=True) as file, io.BufferedWriter(file) as written:
                for row in held.rows:
                    written.write(_encode(row) + b"\n")
                    counts[held.name] += 1
            progress("exporting", number, len(COLUMNS) + len(OTHERS))
        zipped.writestr("README.txt", _readme(named, counts))
    # The id would outlive an erasure in the audit.
    subject = f"driver {key_of(engine, settings).hash_of(named)}"
    with write_transaction(engine) as connection:
        note(connection, "driver.export", subject, after={"rows": sum(counts.values())})
    return counts


def export_to_file(
    engine: Engine, settings: Settings, user_id: str, file: Path, progress: Progress = no_progress
) -> Mapping[str, int]:
    """Write all that is held of a driver to a file that only its user can read, and return the rows by table.

    Until the file is whole, its name ends in `.part`.

    Raises:
        NotFound, FollowerBehind, NoErasureKey: as in `export_driver`. No file is left then.
        UnusableFile: the file cannot be written, such as on a full disk. No file is left then.
    """
    part = file.with_name(f"{file.name}.part")
    new_private_file(part)
    try:
        with part.open("r+b") as out:
            counts = export_driver(engine, settings, user_id, out, progress)
        put_in_place(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UnusableFile(f"{file}: {error.strerror or error}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return counts


def _snapshot(engine: Engine) -> Connection:
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


def _file(name: str) -> str:
    return f"{name}.ndjson"


def _readme(user_id: str, counts: Mapping[str, int]) -> str:
    parts = []
    for name, count in counts.items():
        columns = COLUMNS.get(name)
        parts.append(f"{_file(name)}: {count:,} rows")
        lines = [f"  {column}: {words}" for column, words in columns.items()] if columns else [f"  {OTHERS[name]}"]
        parts += [*lines, ""]
    return _README.format(user_id=user_id, at=utc_now().isoformat(" ", "seconds"), files="\n".join(parts))
