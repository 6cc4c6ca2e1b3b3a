"""The login of a browser: a signed cookie that stands for the API key until it expires.

The cookie is signed with a key that is derived from the API key. So all server processes accept the cookie, no process
has to remember it, and it ends when the API key is changed.
"""

import hashlib
import hmac
import secrets
import time

COOKIE = "zap_login"
SECONDS = 12 * 3600
_LONGEST_COOKIE = 200


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

    def _signature(self, text: str) -> str:
        return hmac.new(self._signing_key, text.encode(), hashlib.sha256).hexdigest()
