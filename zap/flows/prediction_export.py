"""The answers to requests in a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.log.prediction_list import COLUMNS, Wanted, pages
from zap.errors import UnusableFile
from zap.flows.prediction_list import of_stored_driver
from zap.formats.answer_files import part_of
from zap.formats.request_files import file_format
from zap.formats.table_files import write_table
from zap.progress import Progress, no_progress

_ROWS = 1_000


def export_predictions(
    engine: Engine, wanted: Wanted, out: Path, *, force: bool = False, progress: Progress = no_progress
) -> int:
    """Write all wanted answers to a file, newest first, and return their number.

    Answers that are logged after the export has begun are not in the file. Only one page is in memory. Until the file
    is whole, its name ends in `.part`; after an error this file is removed.

    The audit has a row before there is a file.

    Args:
        engine: on the database.
        wanted: which answers.
        out: the file: .csv, .ndjson, .jsonl or .parquet; all but the last may be gzipped (.csv.gz). An existing file is
            replaced.
        force: whether to replace the `.part` file of another command.
        progress: called with "exporting" (in ids of answers).

    Raises:
        UnusableFile: the name has another ending, the `.part` file is there already, or the file cannot be written.
    """
    kind, part = file_format(out), part_of(out)
    if part.exists() and not force:
        raise UnusableFile(f"{part.name} is there already; rename the file to keep it, or replace it with --force")
    with write_transaction(engine) as connection:
        note(connection, "predictions.export", f"file {out.name}", after=_noted(wanted))
    wanted, written, last = of_stored_driver(engine, wanted), 0, 0
    try:
        with write_table(part, kind, COLUMNS) as table:
            progress("exporting", 0, 1)
            for page in pages(engine, wanted, _ROWS):
                table.write(page.rows)
                written += len(page.rows)
                if page.rows:
                    last = last or page.rows[0]["prediction_id"]
                progress("exporting", last - (page.before or 0) if last else 1, last or 1)
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return written


def _noted(wanted: Wanted) -> dict[str, Any]:
    """Return the filters for the audit, without the driver: nothing is ever erased from the audit."""
    filters = {name: value for name, value in asdict(wanted).items() if value is not None}
    return filters | ({"user_id": "one driver"} if wanted.user_id is not None else {})
