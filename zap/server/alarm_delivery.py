"""AlarmDelivery: post the messages of the outbox to ZAP_ALARM_URL."""

import asyncio

import structlog
from sqlalchemy import Engine

from zap.db.engine import database_now
from zap.db.monitoring.alarm_outbox import AlarmMessage, Clock, claim_message, note_delivered, note_failed
from zap.server.watch import watch
from zap.server.webhook import Receiver
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The pause between two looks into the outbox.
DELIVERY_SECONDS = 5.0
# The most messages of one look.
_MOST_MESSAGES = 50


class AlarmDelivery:
    """Post the messages that are due. A watch calls `look`.

    Several processes may do this at once, because each message is claimed before it is posted.

    Args:
        engine: on the database.
        receiver: the receiver of ZAP_ALARM_URL.
        clock: returns the present time; by default the time of the database.
    """

    def __init__(self, engine: Engine, receiver: Receiver, clock: Clock = database_now) -> None:
        self._engine = engine
        self._receiver = receiver
        self._clock = clock
        self._closed = False

    def look(self) -> None:
        """Post the messages that are due, until one is not accepted: then the next ones would fail too."""
        for _ in range(_MOST_MESSAGES):
            if self._closed or (message := claim_message(self._engine, self._clock)) is None:
                return
            if not self._deliver(message):
                return

    def close(self) -> None:
        """Give up the post that is under way, because the server stops. Another attempt follows after the start."""
        self._closed = True
        self._receiver.close()

    def _deliver(self, message: AlarmMessage) -> bool:
        reply = self._receiver.post(message.message_id, message.body)
        if reply.accepted:
            note_delivered(self._engine, message, self._clock)
            return True
        again = note_failed(self._engine, message, reply.reason, final=reply.gone, clock=self._clock)
        said = {"alarm_id": message.alarm_id, "attempts": message.attempts, "reason": reply.reason}
        if again is None:
            log.error("a message about an alarm was given up", **said)
        else:
            log.warning("a message about an alarm was not accepted", **said, next_attempt_at=again.isoformat())
        return False


def receiver_of(settings: Settings) -> Receiver | None:
    """Return the receiver of ZAP_ALARM_URL; None if it is not set."""
    if settings.alarm_url is None or settings.alarm_secret is None:
        return None
    return Receiver(settings.alarm_url, settings.alarm_secret.get_secret_value())


async def deliver_alarms(engine: Engine, settings: Settings, stopping: asyncio.Event) -> None:
    """Post messages about alarms until the server stops. Without ZAP_ALARM_URL, there is nothing to do.

    Args:
        engine: on the database.
        settings: the receiver.
        stopping: set when the server stops.
    """
    receiver = receiver_of(settings)
    if receiver is None:
        return
    delivery = AlarmDelivery(engine, receiver)
    watching = asyncio.create_task(watch(delivery.look, DELIVERY_SECONDS))
    try:
        await stopping.wait()
    finally:
        # A post that is under way ends at once, so that the server does not wait for the receiver.
        delivery.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
