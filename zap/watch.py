"""A watch: one look at what others may have changed, again and again, for as long as the server runs."""

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger(__name__)


async def watch(look: Callable[[], object], seconds: float) -> None:
    """Call `look` in a thread, now and for ever, with so many seconds in between.

    Cancelled in the middle of a look it waits until that is over: what the look uses is there as long as it looks.
    """
    while True:
        looking = asyncio.create_task(asyncio.to_thread(look))
        try:
            await asyncio.shield(looking)
        except asyncio.CancelledError:
            await asyncio.wait([looking])
            raise
        except SQLAlchemyError as error:
            log.warning("the database did not answer a watch", look=str(look), error=type(error).__name__)
        except Exception:
            # Whatever it is, the next look may go well; without the watch this process would never change again.
            log.exception("a watch failed", look=str(look))
        await asyncio.sleep(seconds)
