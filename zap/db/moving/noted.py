"""What is done with a whole database, written down in its audit."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import inspect, make_url

from zap.db.audit import note
from zap.db.engine import create_engine, write_transaction
from zap.db.moving.connections import explained


def note_now(url: str, action: str, subject: str, after: Mapping[str, Any]) -> None:
    """Write a row into the audit of a database, in a transaction of its own. A database of an older zap has no audit.

    Raises:
        DatabaseUnavailable: the row cannot be written. What is noted must not happen then.
    """
    with explained(make_url(url)):
        engine = create_engine(url)
        try:
            if inspect(engine).has_table("audit"):
                with write_transaction(engine) as connection:
                    note(connection, action, subject, after=after)
        finally:
            engine.dispose()
