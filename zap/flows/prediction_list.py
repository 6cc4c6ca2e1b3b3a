"""A page of the answers to requests, for a driver as a request may name the driver."""

from dataclasses import replace

from sqlalchemy import Engine

from zap.db.history.drivers import driver_named
from zap.db.log.prediction_list import PAGE_SECONDS, NewerPage, Page, Wanted, read_newer, read_page
from zap.db.monitoring.removals import read_removed_before
from zap.formats.values import LARGEST_ID
from zap.ml.cells import plain_id


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
    page = read_page(engine, of_stored_driver(engine, wanted), limit, before, seconds)
    if page.before is not None:
        return page
    with engine.connect() as connection:
        return replace(page, removed_before=read_removed_before(connection))


def list_newer(engine: Engine, wanted: Wanted, limit: int, after: int, seconds: float = PAGE_SECONDS) -> NewerPage:
    """Return the page of answers with larger ids than `after`; see `list_predictions`."""
    return read_newer(engine, of_stored_driver(engine, wanted), limit, after, seconds)


def of_stored_driver(engine: Engine, wanted: Wanted) -> Wanted:
    """Return the filter with the id of the driver as the outcomes have it."""
    named = wanted.user_id
    if named is None or plain_id(named) == named:
        return wanted
    return replace(wanted, user_id=driver_named(engine, named))
