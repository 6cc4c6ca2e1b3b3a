"""The checks of the database for /health/ready: whether it is at head and accepts a commit."""

import asyncio
import contextlib
import math
import threading
import time

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import file_of
from zap.db.log.prediction_log import check_writable
from zap.db.schema import check_at_head
from zap.errors import DOES_NOT_ANSWER, DatabaseReplaced, DatabaseUnavailable, ZapError
from zap.threads import PATIENCE_SECONDS

log = structlog.get_logger(__name__)

CANNOT_BE_WRITTEN = "the log cannot be written to"


# How long a result is used again: a check makes a commit, so it should be rare.
_FRESH_SECONDS = 2.0


class DatabaseChecks:
    """Check whether the database is at head and accepts a commit, in a separate thread and within a deadline.

    A database that hangs blocks only this thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking: asyncio.Future[dict[str, str]] | None = None
        self._begun = self._found_at = -math.inf
        self._found: dict[str, str] = {}

    async def results(self) -> dict[str, str]:
        """Return the result of each check: "ok", or what is wrong."""
        looking = self._looking
        if looking is None:
            if time.monotonic() - self._found_at < _FRESH_SECONDS:
                return self._found
            try:
                looking = self._look()
            except RuntimeError:
                return dict.fromkeys(("database", "log"), "the server cannot start a thread for this check")
        left = self._begun + PATIENCE_SECONDS - time.monotonic()
        done, _ = await asyncio.wait([looking], timeout=max(0.0, left))
        if done:
            return looking.result()
        return dict.fromkeys(("database", "log"), f"the database did not answer within {PATIENCE_SECONDS} seconds")

    def _look(self) -> asyncio.Future[dict[str, str]]:
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[dict[str, str]] = loop.create_future()

        def tell(found: dict[str, str]) -> None:
            self._looking, self._found, self._found_at = None, found, time.monotonic()
            looking.set_result(found)

        def look() -> None:
            found = {"database": _check_database(self._engine), "log": _check_log(self._engine)}
            # The loop may have been closed meanwhile; then no request waits for the result.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=look, name="health", daemon=True).start()
        self._looking, self._begun = looking, time.monotonic()
        return looking


def _check_database(engine: Engine) -> str:
    try:
        if (file := file_of(engine)) is not None:
            file.check()
        check_at_head(engine)
    except DatabaseUnavailable as error:
        log.error("the database does not answer", reason=error.message)
        return DOES_NOT_ANSWER
    except ZapError as error:
        return error.message
    except Exception:
        log.exception("the database cannot be checked")
        return DOES_NOT_ANSWER
    return "ok"


def _check_log(engine: Engine) -> str:
    try:
        check_writable(engine)
    except DatabaseReplaced as error:
        return error.message
    except SQLAlchemyError as error:
        log.error("the log cannot be written to", reason=str(error.__cause__ or type(error).__name__))
        return CANNOT_BE_WRITTEN
    except Exception:
        log.exception("the log cannot be checked")
        return CANNOT_BE_WRITTEN
    return "ok"
