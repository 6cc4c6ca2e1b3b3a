"""The database of a data scientist: opened for the length of a block, and its usable history."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import create_engine
from zap.db.history import history_store
from zap.db.schema import check_at_head
from zap.db.unusable import reason_of
from zap.errors import DatabaseUnavailable, UnusableHistory
from zap.ml.history import History, clean_history
from zap.settings import read_settings


@contextmanager
def opened_database(database_url: str | None) -> Iterator[Engine]:
    """Yield an engine on a database at head, and raise zap's errors if the database cannot be used.

    Args:
        database_url: such as `sqlite:///FILE`. None stands for the setting ZAP_DATABASE_URL.

    Raises:
        DatabaseUnavailable: there is no such database, or it cannot be opened.
        DatabaseBehind: the database has to be upgraded first.
        TypeError: `database_url` is not a text.
    """
    given: object = database_url
    if given is not None and not isinstance(given, str):
        hint = f'"sqlite:///{given}"' if isinstance(given, Path) else '"sqlite:///FILE"'
        raise TypeError(
            f"the first argument must be the URL of the database, a text such as {hint}; it is {given!r}."
            " Pass a version by name: version=3"
        )
    settings = read_settings(database_url=database_url)
    url = settings.url
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise DatabaseUnavailable(
            f"there is no file {url.database} (from {Path.cwd()}); give the URL of the database,"
            ' such as zap.read_history("sqlite:///FILE"), or set ZAP_DATABASE_URL'
        )
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    try:
        check_at_head(engine)
        yield engine
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(f"{settings.shown_url}: {reason_of(error)}") from error
    finally:
        engine.dispose()


def usable_history(engine: Engine) -> History:
    """Return the cleaned history.

    Raises:
        UnusableHistory: the history has no usable session.
    """
    history = clean_history(history_store.read_history(engine))
    if history.frame.empty:
        dropped = history.dropped.as_dict()
        why = f"none of its sessions is usable: {dropped['rows']}" if dropped["rows"] else "there is no session"
        raise UnusableHistory(
            f"the database has no history, {why}; add sessions with zap import-history or zap sample-history",
            dropped=dropped,
        )
    return history
