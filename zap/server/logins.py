"""The login of a browser: a cookie that stands for a key until it expires, or until the key ends.

The database holds a digest of the cookie together with the key's digest. So all server processes accept the cookie, a
login ends with its key and with a change of ZAP_API_KEY, and a stolen database holds no cookie.
"""

import hashlib
import secrets
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from sqlalchemy import Engine

from zap.db.logins import begin_login, end_login, has_login
from zap.db.wrong_keys import note_wrong_key, seconds_to_wait
from zap.server.keys import Key, Keys

COOKIE = "zap_login"
SECONDS = 12 * 3600
_LONGEST_COOKIE = 200
# The part of an IPv6 address that is a client's network.
_NETWORK_BITS = 64


class Tried(NamedTuple):
    """What came of a key: the key if it is right, and how many seconds its client has to wait before the next one."""

    key: Key | None
    wait: int = 0


class Logins:
    """Begin, check and end the logins of one application. All methods but `key_of` ask the database.

    Args:
        keys: the keys that logins stand for.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @property
    def is_needed(self) -> bool:
        """Return whether pages need a login."""
        return self._keys.is_closed

    def begin(self, engine: Engine, key: Key) -> str:
        """Return the cookie of a new login for a key."""
        cookie = f"{key.key_id}.{secrets.token_urlsafe(32)}"
        begin_login(engine, _digest(cookie, key), key.key_id, timedelta(seconds=SECONDS))
        return cookie

    def key_of(self, cookie: str | None) -> Key | None:
        """Return the key that a cookie names, if the key has not ended. The cookie may be made up.

        Raises:
            DatabaseUnavailable: the last look at the database is old. `KeyLooks` looks again.
        """
        if not cookie or len(cookie) > _LONGEST_COOKIE or not cookie.isascii():
            return None
        return self._keys.with_id(cookie.partition(".")[0])

    def is_valid(self, engine: Engine, cookie: str, key: Key) -> bool:
        """Return whether a cookie is the cookie of a login for a key, and the login has not ended."""
        return has_login(engine, _digest(cookie, key))

    def end(self, engine: Engine, cookie: str, key: Key) -> None:
        """End a login, for all server processes."""
        end_login(engine, _digest(cookie, key))

    def try_key(self, engine: Engine, client: str, sent: str) -> Tried:
        """Check a key that was sent with the form, unless too many wrong ones came from its client.

        Args:
            engine: on the database.
            client: the result of `client_network`.
            sent: the key.
        """
        if wait := seconds_to_wait(engine, client):
            return Tried(None, wait)
        # The database has just answered, so the keys can be as new.
        self._keys.look(engine)
        key = self._keys.find(sent.encode(errors="surrogatepass"))
        if key is None:
            note_wrong_key(engine, client)
        return Tried(key)


def client_network(client: Any) -> str:
    """Return the address of a client; of IPv6 its network, because a client has all addresses of its network.

    Args:
        client: the host and the port, as ASGI has it; None if the server does not know it.
    """
    host = str(client[0]) if client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:_LONGEST_COOKIE]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _NETWORK_BITS << _NETWORK_BITS)) + f"/{_NETWORK_BITS}"


def _digest(cookie: str, key: Key) -> str:
    return hashlib.sha256(cookie.encode() + b"\0" + key.digest).hexdigest()
