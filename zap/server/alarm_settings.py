"""The settings of alarms, written down in the audit when a server starts with other ones than the server before."""

import hashlib
import hmac

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.audit import note_state
from zap.server.alarm_delivery import receiver_of
from zap.settings import Settings

log = structlog.get_logger(__name__)

# How many characters of the fingerprint are stored.
_CHARACTERS = 16


def note_alarm_settings(engine: Engine, settings: Settings) -> None:
    """Write down to where alarms are posted, if this has changed.

    The path of the address may hold a password, so only its host is stored, and a fingerprint that another path or
    another secret changes. Nobody can guess either from it, because the secret has at least 24 random bytes.
    """
    receiver = receiver_of(settings)
    state: dict[str, str | None] = {"address": None, "fingerprint": None}
    if receiver is not None and settings.alarm_secret is not None:
        key, url = settings.alarm_secret.get_secret_value().encode(), str(settings.alarm_url).encode()
        fingerprint = hmac.new(key, url, hashlib.sha256).hexdigest()[:_CHARACTERS]
        state = {"address": receiver.shown, "fingerprint": fingerprint}
    try:
        note_state(engine, "alarms.settings", "ZAP_ALARM_URL and ZAP_ALARM_SECRET", state)
    except SQLAlchemyError as error:
        # The server must start, and its settings hold anyway.
        log.warning("the settings of alarms could not be written down", error=type(error).__name__)
