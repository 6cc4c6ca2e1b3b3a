"""Errors of keys: what a key may not do, and what cannot be done with keys."""

from collections.abc import Mapping
from typing import Any

from zap.errors.family import ZapError
from zap.sentences import phrase


class ScopeMissing(ZapError):
    """The key is right, but it may not do this. `needed_scopes` names the scopes that it lacks."""

    title = phrase("The key may not do this")
    status_code = 403


class LimitReached(ZapError):
    """A key has reached one of its limits, or very many wrong keys came from the client's network.

    Attributes:
        headers: the headers that say when to send the request again, and what the limit is.
    """

    title = phrase("Too many requests")
    status_code = 429

    def __init__(self, message: str, headers: Mapping[str, str] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.headers = dict(headers or {})


class KeyRefused(ZapError):
    """A key cannot be made, rotated or revoked as things are. The message says why."""

    title = phrase("The keys were not changed")
    status_code = 409
    exit_code = 50
