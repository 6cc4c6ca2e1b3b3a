"""The driver and the moment of a logged request, read as /predict has read them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from zap.formats.json_body import read_session_time
from zap.ml.cells import is_nothing


class LoggedRequest(NamedTuple):
    """What a request asked about.

    Attributes:
        user_id: the driver as the request names it; None if it names none.
        asked_at: the start of the session, as the drivers' wall time to the second.
    """

    user_id: str | None
    asked_at: datetime


class LoggedNames(NamedTuple):
    """Whom a request was about: the driver and the vehicle as it names them; None for each that it does not name."""

    user_id: str | None
    vehicle_id: int | None


class _Body(msgspec.Struct):
    user_id: Any = None
    vehicle_id: Any = None
    charging_start_time: Any = None


_decoder = msgspec.json.Decoder(_Body)


def read_logged(text: str, received: datetime, wall_time: Callable[[datetime], datetime]) -> LoggedRequest:
    """Read a logged request. Rows older than zap may hold other texts: these name no driver and no moment.

    Args:
        text: the JSON as the client sent it.
        received: the drivers' wall time when the request was received, which replaces a missing start.
        wall_time: converts a time with an offset to the drivers' wall time.
    """
    body = _read(text)
    start = body.charging_start_time
    time = read_session_time(start, wall_time) if isinstance(start, str) else None
    return LoggedRequest(_driver(body), received.replace(microsecond=0) if time is None else time[1])


def driver_of(text: str) -> str | None:
    """Return the driver as a logged request names it; None if it names none."""
    return _driver(_read(text))


def names_in(text: str) -> LoggedNames:
    """Return whom a logged request was about."""
    body = _read(text)
    is_number = isinstance(body.vehicle_id, int) and not isinstance(body.vehicle_id, bool)
    return LoggedNames(_driver(body), body.vehicle_id if is_number else None)


def _read(text: str) -> _Body:
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _Body()


def _driver(body: _Body) -> str | None:
    return body.user_id if isinstance(body.user_id, str) and not is_nothing(body.user_id) else None
