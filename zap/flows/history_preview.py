"""The preview of an import: how files would be read, and what an import would add and change in the database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import sqlalchemy
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from zap.db.engine import reading_engine
from zap.db.history.history_rows import SESSIONS
from zap.db.history.history_store import store_history
from zap.db.history.session_upsert import taken_rows
from zap.db.schema import check_at_head
from zap.errors import BadHistoryFile, DatabaseAhead, DatabaseBehind, DatabaseUnavailable
from zap.flows.history_import import read_file, spelt_as_stored
from zap.flows.history_report import ImportReport, import_report, refusal_of_files, refusal_of_preview
from zap.formats.history_cells import ToWallTime
from zap.formats.history_file import HistoryFile
from zap.formats.history_survey import NO_CHOICES, Choices
from zap.progress import Progress, no_progress


def preview_files(
    database_url: str,
    paths: Sequence[Path],
    *,
    wall_time: ToWallTime,
    choices: Choices = NO_CHOICES,
    shown: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(no_progress),
) -> Iterator[ImportReport]:
    """Yield how each file would be imported. Each file is compared with the database, and not with the other files.

    Args:
        database_url: of the database, which is only read. If it does not exist, all rows are new. If it cannot be read,
            the report says so.
        paths: the files.
        wall_time: as in `import_history`.
        choices: as in `import_history`.
        shown: returns the progress of one file.

    Raises:
        BadHistoryFile: after the last file, if an import would refuse a file.
    """
    results: list[tuple[Path, ImportReport | BadHistoryFile]] = []
    with _database(database_url) as (engine, why_not):
        for path in paths:
            try:
                with shown() as progress:
                    history = read_file(path, wall_time=wall_time, choices=choices, progress=progress)
                    report = _compared(path, history, engine, why_not, progress)
            except BadHistoryFile as error:
                results.append((path, error))
            else:
                refused = report.refused and not choices.skip_bad_rows
                results.append((path, refusal_of_preview(report) if refused else report))
                yield report
    if any(isinstance(result, BadHistoryFile) for _, result in results):
        raise refusal_of_files(results)


@contextmanager
def _database(url: str) -> Iterator[tuple[Engine | None, str]]:
    """Yield an engine on the database; or None, and the reason why files cannot be compared with the database."""
    engine, why_not = reading_engine(url), ""
    try:
        if not _is_there(engine):
            compared: Engine | None = _empty_database()
        else:
            check_at_head(engine)
            compared = engine
    except (DatabaseAhead, DatabaseBehind, DatabaseUnavailable) as error:
        compared, why_not = None, error.message
    try:
        yield compared, why_not
    finally:
        engine.dispose()


def _is_there(engine: Engine) -> bool:
    """Return whether there is a database with a history.

    Raises:
        DatabaseUnavailable: the database cannot be opened.
    """
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        return False
    try:
        check_at_head(engine)
    except DatabaseBehind:
        return inspect(engine).has_table(SESSIONS.name)
    return True


def _empty_database() -> Engine:
    """Return an engine on a database in memory that has all tables and no row."""
    engine = sqlalchemy.create_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    return engine


def _compared(
    path: Path, history: HistoryFile, engine: Engine | None, why_not: str, progress: Progress
) -> ImportReport:
    """Return the report of a file, with what an import would add and change."""
    if engine is not None:
        try:
            with engine.connect() as connection, connection.begin():
                history = spelt_as_stored(connection, history)
                history = history.without(taken_rows(connection, history.sessions))
                parts = (history.users, history.vehicles, history.sessions)
                return import_report(path, history, store_history(connection, *parts, progress, dry=True))
        except SQLAlchemyError as error:
            why_not = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    report = import_report(path, history)
    return replace(report, notes=[*report.notes, f"not compared with the stored sessions: {why_not}"])
