"""The trainings that a server starts by itself, if ZAP_RETRAIN_EVERY says so."""

import asyncio

import structlog
from litestar.datastructures import State
from sqlalchemy.exc import SQLAlchemyError

from zap.db.tables import utc_now
from zap.errors import TrainingRunning, ZapError
from zap.flows.retraining import reason_to_train
from zap.formats.training_options import TrainingOptions
from zap.sentences import say
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The pause between two looks.
_PAUSE_SECONDS = 60.0


async def retrain(state: State, pause: float = _PAUSE_SECONDS) -> None:
    """Start a training whenever it is time for one, until the server stops. The reason is the note of the version.

    Several servers may look at once: a training that runs prevents a second training.

    Args:
        state: of the app.
        pause: the seconds between two looks.
    """
    settings: Settings = state.settings
    while settings.retrain_every is not None and not state.stopping.is_set():
        try:
            reason = await state.threads.run(reason_to_train, state.engine, settings, utc_now())
            if reason is not None:
                options = TrainingOptions(
                    promote=settings.retrain_promote, note=say("started by zap: {reason}", reason=reason)
                )
                await state.training_processes.start(options)
        except TrainingRunning:
            # Another server was faster, or somebody has started a training.
            pass
        except ZapError as error:
            log.warning("no training could be started", reason=error.message)
        except (SQLAlchemyError, OSError) as error:
            log.warning("no training could be started", error=type(error).__name__)
        except Exception:
            # The next look may succeed, and nobody else would start a training.
            log.exception("no training could be started")
        try:
            await asyncio.wait_for(state.stopping.wait(), pause)
        except TimeoutError:
            continue
