"""Lists of the answers to requests: a page, or a file of all of them."""

from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine

from zap.db.history.drivers import driver_named
from zap.db.log.prediction_list import COLUMNS, PAGE_SECONDS, Page, Wanted, pages, read_page
from zap.errors import UnusableFile
from zap.formats.answer_files import part_of
from zap.formats.request_files import file_format
from zap.formats.table_files import write_table
from zap.formats.values import LARGEST_ID
from zap.ml.cells import plain_id
from zap.progress import Progress, no_progress

_ROWS = 1_000


def list_predictions(
    engine: Engine, wanted: Wanted, limit: int, before: int = LARGEST_ID, seconds: float = PAGE_SECONDS
) -> Page:
    """Return a page of answers, newest first.

    Args:
        engine: on the database.
        wanted: which answers. The driver may be named as in a request.
        limit: the most answers of the page.
        before: return answers with smaller ids.
        seconds: how long to look. A page that ends then may have few answers, and says where to go on.
    """
    return read_page(engine, _of_stored_driver(engine, wanted), limit, before, seconds)


def export_predictions(
    engine: Engine, wanted: Wanted, out: Path, *, force: bool = False, progress: Progress = no_progress
) -> int:
    """Write all wanted answers to a file, newest first, and return their number.

    Answers that are logged after the export has begun are not in the file. Only one page is in memory. Until the file
    is whole, its name ends in `.part`; after an error this file is removed.

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
    wanted, written, last = _of_stored_driver(engine, wanted), 0, 0
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


def _of_stored_driver(engine: Engine, wanted: Wanted) -> Wanted:
    """Return the filter with the id of the driver as the outcomes have it."""
    named = wanted.user_id
    if named is None or plain_id(named) == named:
        return wanted
    return replace(wanted, user_id=driver_named(engine, named))
