"""The key that a request carries, and what the request may do beyond the declaration of its route."""

from functools import partial
from typing import Any

from zap.errors import ScopeMissing, Unauthorized
from zap.sentences import say
from zap.server.key_looks import KeyLooks
from zap.server.keys import Key, Keys

# Where a request carries its key, and where it carries the key of its login.
_KEY, _LOGIN_KEY = "key", "login_key"


def carry(scope: Any, key: Key, *, by_login: bool) -> None:
    """Let a request carry the key that its header or its login stands for."""
    state = scope.setdefault("state", {})
    state[_KEY] = key
    if by_login:
        state[_LOGIN_KEY] = key


def key_of(scope: Any) -> Key | None:
    """Return the key of a request; None if every route is open, or if the route needs no key."""
    key: Key | None = scope.get("state", {}).get(_KEY)
    return key


def login_key_of(scope: Any) -> Key | None:
    """Return the key of the login of a request; None if its browser has no login."""
    key: Key | None = scope.get("state", {}).get(_LOGIN_KEY)
    return key


def name_of(scope: Any) -> str | None:
    """Return the name that somebody gave to the key of a request; None if it carries no such key."""
    key = key_of(scope)
    return None if key is None else key.own_name


def may(scope: Any, *scopes: str) -> bool:
    """Return whether the key of a request has these scopes, or no key is needed."""
    key = key_of(scope)
    return key is None or key.scopes.issuperset(scopes)


def check_scopes(scope: Any, scopes: frozenset[str], why: str = "") -> None:
    """Refuse a request whose key lacks scopes.

    Args:
        scope: the ASGI scope of the request.
        scopes: the scopes of keys that the request needs.
        why: what in the request needs them; empty if every request to the route needs them.

    Raises:
        ScopeMissing: the key lacks a scope.
    """
    key = key_of(scope)
    if key is not None and not scopes <= key.scopes:
        raise scope_missing(key, scopes, why)


def scope_missing(key: Key, scopes: frozenset[str], why: str = "") -> ScopeMissing:
    """Return the error of a key that lacks scopes."""
    needed = sorted(scopes - key.scopes)
    named = ", ".join(needed)
    said = (
        say("{why} needs a key with the scope {scopes:s}", why=why, scopes=named)
        if why
        else say("this needs a key with the scope {scopes:s}", scopes=named)
    )
    return ScopeMissing(said, needed_scopes=needed)


async def still_has_key(scope: Any, state: Any) -> bool:
    """Return whether a long reply may go on: its key has not ended since it began.

    Args:
        scope: of the request.
        state: of the application.

    Raises:
        DatabaseUnavailable: the database does not say whether the key is still right.
    """
    key = key_of(scope)
    if key is None:
        return True
    looks: KeyLooks = state.key_looks
    keys: Keys = state.api_keys
    return await looks.found(partial(keys.with_id, key.key_id)) is not None


async def check_again(scope: Any, state: Any) -> None:
    """Refuse to go on with a long reply whose key has ended since it began.

    Args:
        scope: of the request.
        state: of the application.

    Raises:
        Unauthorized: the key has ended.
        DatabaseUnavailable: the database does not say whether it has.
    """
    if not await still_has_key(scope, state):
        raise Unauthorized(say("the key was revoked or has expired since this reply began"))
