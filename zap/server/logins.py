"""The login of a browser: a signed cookie that stands for the API key until it expires.

The cookie is signed with a key that is derived from the API key. So all server processes accept the cookie, no process
has to remember it, and it ends when the API key is changed. A login that a person has ended is in the database, until
its cookie expires.
"""

import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from sqlalchemy import Engine

from zap.db.ended_logins import end_login, has_ended
from zap.db.wrong_keys import note_wrong_key, seconds_to_wait

COOKIE = "zap_login"
SECONDS = 12 * 3600
# What a request carries whose login was ended.
ENDED = "ended_login"
_LONGEST_COOKIE = 200
# The part of an IPv6 address that is a client's network.
_NETWORK_BITS = 64


class Tried(NamedTuple):
    """What came of a key: whether it is right, and how many seconds its client has to wait before the next one."""

    is_right: bool
    wait: int = 0


class Logins:
    """Begin and check the logins of one application.

    Args:
        api_key: the API key; None if every route is open.
    """

    def __init__(self, api_key: str | None) -> None:
        self.is_needed = api_key is not None
        own = secrets.token_bytes(32) if api_key is None else api_key.encode()
        self._signing_key = hmac.digest(own, b"zap: signature of a login, version 1", hashlib.sha256)
        self._key_digest = None if api_key is None else hashlib.sha256(own).digest()

    def is_key(self, sent: str) -> bool:
        """Return whether a text is the API key. Every wrong text of one length takes equal time."""
        digest = hashlib.sha256(sent.encode(errors="surrogatepass")).digest()
        return self._key_digest is not None and hmac.compare_digest(digest, self._key_digest)

    def begin(self) -> str:
        """Return the cookie of a new login."""
        text = f"{int(time.time()) + SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{text}.{self._signature(text)}"

    def is_valid(self, cookie: str | None) -> bool:
        """Return whether a cookie is from `begin` with the present API key, and has not expired."""
        if not self.is_needed or not cookie or len(cookie) > _LONGEST_COOKIE or not cookie.isascii():
            return False
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature, self._signature(text)):
            return False
        return int(text.partition(".")[0]) > time.time()

    def has_ended(self, engine: Engine, cookie: str) -> bool:
        """Return whether a valid login was ended. It asks the database, so call it in a thread."""
        return has_ended(engine, _digest(cookie))

    def end(self, engine: Engine, cookie: str) -> None:
        """End a valid login, for all server processes."""
        end_login(engine, _digest(cookie), datetime.fromtimestamp(int(cookie.partition(".")[0]), UTC))

    def try_key(self, engine: Engine, client: str, sent: str) -> Tried:
        """Check a key that was sent with the form, unless too many wrong ones came from its client.

        Args:
            engine: on the database.
            client: the result of `client_network`.
            sent: the key.
        """
        if wait := seconds_to_wait(engine, client):
            return Tried(is_right=False, wait=wait)
        if self.is_key(sent):
            return Tried(is_right=True)
        note_wrong_key(engine, client)
        return Tried(is_right=False)

    def _signature(self, text: str) -> str:
        return hmac.new(self._signing_key, text.encode(), hashlib.sha256).hexdigest()


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


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
