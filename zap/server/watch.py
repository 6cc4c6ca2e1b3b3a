"""A watch: repeat a check, for changes by other processes, as long as the server runs."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy.exc import SQLAlchemyError

from zap.db.rights import lacks_right
from zap.db.unusable import reason_of
from zap.errors import ZapError

log = structlog.get_logger(__name__)

# How long the end of a watch waits for a look that is running.
_LAST_LOOK_SECONDS = 3


async def watch(look: Callable[[], object], seconds: float) -> None:
    """Call `look` again and again in a separate thread, until this task is cancelled.

    If the task is cancelled during a look, it waits up to _LAST_LOOK_SECONDS for the look, so that the look can use its
    database until it ends.

    Args:
        look: the function to call.
        seconds: the pause between two calls.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="watch")
    try:
        await _look_again_and_again(look, seconds, thread)
    finally:
        # The end of the watch does not wait for a look that hangs.
        thread.shutdown(wait=False, cancel_futures=True)


def last_write(write: Callable[[], object], loss: str) -> None:
    """Write what a watch has not written, when a server ends. An error of the database must not prevent the end.

    Args:
        write: the function that writes.
        loss: what is lost if it fails.
    """
    try:
        write()
    except (SQLAlchemyError, ZapError) as error:
        log.warning("the database did not take the last counts of this process", lost=loss, error=type(error).__name__)


async def _look_again_and_again(look: Callable[[], object], seconds: float, thread: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    # What the role of the database may not do, as the log has said it.
    lacks = None
    while True:
        looking = loop.run_in_executor(thread, look)
        try:
            await asyncio.shield(looking)
            if lacks is not None:
                log.info("a repeated check is possible again", look=str(look))
            lacks = None
        except asyncio.CancelledError:
            await asyncio.wait([looking], timeout=_LAST_LOOK_SECONDS)
            raise
        except SQLAlchemyError as error:
            lacks = _note(look, error, lacks)
        except ZapError as error:
            log.warning("a repeated check was not possible", look=str(look), reason=error.message)
        except Exception:
            # The next look may succeed, and without the watch this process would miss all later changes.
            log.exception("a repeated check failed", look=str(look))
        await asyncio.sleep(seconds)


def _note(look: Callable[[], object], error: SQLAlchemyError, lacks: str | None) -> str | None:
    """Log an error of the database. Return the right that its role lacks, in words; None for another error.

    Args:
        look: the function that raised the error.
        error: the error.
        lacks: the right that the log has named already. Until a person grants it, nothing changes.
    """
    if not lacks_right(error):
        log.warning("the database did not answer a repeated check", look=str(look), error=type(error).__name__)
        return None
    reason = reason_of(error)
    if reason != lacks:
        log.warning("a repeated check is not possible without a right in the database", look=str(look), reason=reason)
    return reason
