"""Answers of the log as pages list them: with what happened in one word, and the page of their driver."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from zap.settings import Settings

# The most drivers that a page offers when an id is not known.
MOST_SIMILAR = 10
# Browsers take these paths for the folder and the folder above, also if they are encoded.
_DOTS = frozenset({".", ".."})


def driver_path(user_id: str) -> str:
    """Return the path of a driver's page, for an id of any characters."""
    encoded = quote(user_id, safe="")
    return f"/pages/drivers?user_id={encoded}" if user_id in _DOTS else f"/pages/drivers/{encoded}"


def what_happened(row: Mapping[str, Any], wall_now: datetime, horizon: timedelta) -> str:
    """Return the key of `words.WHAT_WORDS` for what happened after an answer.

    Args:
        row: `outcome` (its status; None until it is followed), `predicted_class`, `actual_class` and `asked_at`.
        wall_now: the drivers' wall time.
        horizon: how long after the moment that was asked about a session may still be its outcome.
    """
    status: str | None = row["outcome"]
    if status is None:
        return "unfollowed"
    if status == "matched":
        return "right" if row["actual_class"] == row["predicted_class"] else "wrong"
    if status == "waiting" and row["asked_at"] is not None and row["asked_at"] + horizon < wall_now:
        return "no_session"
    return status


def read_listed(row: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return a row of `list_predictions` with its moments, with `what` happened, and with the page of its driver."""
    asked, received = row["asked_at"], row["request_timestamp"]
    read = {
        **row,
        "asked_at": None if asked is None else datetime.fromisoformat(asked),
        "asked": None if received is None else datetime.fromisoformat(received),
        "driver_path": None if row["user_id"] is None else driver_path(row["user_id"]),
    }
    return read | {"what": what_happened(read, settings.wall_now(), settings.horizon)}
