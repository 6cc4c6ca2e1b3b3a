"""The keys as a serving process knows them: in memory, and as new as the last look at the database.

A request asks only the memory. The key that a client sends is looked up by its SHA-256, of which a client can
choose no bit. So the time of a look-up tells nothing about the keys: a wrong key with a known id takes as long as any
other text of its length. A right key is remembered as it was sent, because SHA-256 takes longer than the rest of the
check. A dictionary finds it by a hash with a random seed, so a wrong key is compared with none.
"""

import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Engine

from zap.db.api_keys import has_keys, keys_in_use, note_use
from zap.errors import DatabaseUnavailable
from zap.scopes import ADMIN, SCOPES
from zap.sentences import say
from zap.server.request_rate import RequestRate

log = structlog.get_logger(__name__)

# How long (seconds) keys are accepted after the last look at the database that succeeded, from its beginning. So a key
# ends within two seconds on every machine, also on one that the database does not answer.
FRESH_SECONDS = 1.5
# The key of the settings has a name and an id that no stored key can have.
SETTING, SETTING_ID = "ZAP_API_KEY", "setting"
_ALL = frozenset(SCOPES)


class Key:
    """A key that a request may carry.

    Attributes:
        key_id: its id, which is no secret.
        name: who or what uses it.
        digest: the SHA-256 of the whole key.
        scopes: what it may do. The scope admin is all scopes.
        until: when it ends, in seconds since 1970.
        rate: its limit of requests; None if it has none.
        batch_rows_per_day: its limit of rows; None if it has none.
        is_used: whether it was used since the uses of keys were last stored.
    """

    __slots__ = ("batch_rows_per_day", "digest", "is_used", "key_id", "name", "rate", "scopes", "until")

    def __init__(  # noqa: PLR0913 - one for each attribute
        self,
        key_id: str,
        name: str,
        digest: bytes,
        scopes: frozenset[str],
        *,
        until: float = float("inf"),
        rate: RequestRate | None = None,
        batch_rows_per_day: int | None = None,
    ) -> None:
        self.key_id, self.name, self.digest = key_id, name, digest
        self.scopes = _ALL if ADMIN in scopes else scopes
        self.until, self.rate, self.batch_rows_per_day = until, rate, batch_rows_per_day
        self.is_used = False

    @property
    def own_name(self) -> str | None:
        """Return the name that somebody gave to the key; None for the key of the settings."""
        return None if self.key_id == SETTING_ID else self.name


class Keys:
    """Hold the keys of one process. Until the first look at the database every route is closed.

    Args:
        setting: the value of ZAP_API_KEY; None if it is not set.
    """

    def __init__(self, setting: str | None) -> None:
        self._setting = None
        if setting is not None:
            self._setting = Key(SETTING_ID, SETTING, hashlib.sha256(setting.encode()).digest(), _ALL)
        self.is_closed = True
        # A request that changes keys looks too, and its look must not be undone by an earlier one that takes longer.
        self._looking = threading.Lock()
        self._rows: Any = None
        self._by_digest: dict[bytes, Key] = {}
        self._by_id: dict[str, Key] = {}
        self._sent: dict[bytes, Key] = {}
        self._put({})
        self._fresh_until = float("-inf")

    @property
    def has_setting(self) -> bool:
        """Return whether ZAP_API_KEY is set."""
        return self._setting is not None

    def find(self, sent: bytes) -> Key | None:
        """Return the key that a client has sent; None if it is no key, or has ended.

        Raises:
            DatabaseUnavailable: the key was right, and the last look at the database is old. `KeyLooks` looks again.
        """
        key = self._sent.get(sent)
        if key is None:
            # In this order: if the keys change meanwhile, the key is not remembered among the new ones.
            remembered = self._sent
            key = self._by_digest.get(hashlib.sha256(sent).digest())
            if key is None:
                return None
            remembered[sent] = key
        return self._usable(key)

    def named(self, sent: bytes) -> Key | None:
        """Return the key that a client has sent, also if it has ended by the clock. This is no use of the key."""
        return self._sent.get(sent) or self._by_digest.get(hashlib.sha256(sent).digest())

    def with_id(self, key_id: str) -> Key | None:
        """Return the key with an id; None if there is none, or it has ended.

        Raises:
            DatabaseUnavailable: the last look at the database is old. `KeyLooks` looks again.
        """
        key = self._by_id.get(key_id)
        return None if key is None else self._usable(key)

    def look(self, engine: Engine) -> None:
        """Read the keys from the database. A watch calls this twice a second."""
        with self._looking:
            self._look(engine)

    def _look(self, engine: Engine) -> None:
        with engine.connect() as connection:
            began = time.monotonic()
            rows = [tuple(row) for row in keys_in_use(connection)]
            is_closed = self._setting is not None or bool(rows) or has_keys(connection)
        if rows != self._rows:
            self._put(_keys_of(rows, self._by_id))
            self._rows = rows
        if self.is_closed and not is_closed and self._fresh_until > 0:
            log.warning("there is no key any more: every route is open")
        self.is_closed = is_closed
        self._fresh_until = began + FRESH_SECONDS

    def _usable(self, key: Key) -> Key | None:
        if key.until <= time.time():
            return None
        if key is not self._setting and time.monotonic() > self._fresh_until:
            raise DatabaseUnavailable(say("the database does not say whether the key is still right; send this later"))
        key.is_used = True
        return key

    def _put(self, found: Mapping[str, Key]) -> None:
        """Let requests find these keys. Each request sees all of the old ones or all of the new ones."""
        keys = [*found.values(), *([self._setting] if self._setting else [])]
        self._by_id = {key.key_id: key for key in keys}
        self._by_digest = {key.digest: key for key in keys}
        self._sent = {}

    def store_uses(self, engine: Engine) -> None:
        """Store which keys were used since the last call. A watch of its own calls this once a minute.

        It waits for other writers, for which a look must not wait.
        """
        used = [key for key in self._by_id.values() if key.is_used and key is not self._setting]
        if not used:
            return
        for key in used:
            key.is_used = False
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        note_use(engine, {key.key_id: minute for key in used})


def _keys_of(rows: list[Any], before: Mapping[str, Key]) -> dict[str, Key]:
    """Return the keys of rows by id. A key keeps the count of its requests as long as its limit stays as it is."""
    found = {}
    for row in rows:
        try:
            key = _key_of(row)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            log.warning("a stored key cannot be read, so it is not accepted", key_id=str(row[0])[:20])
            continue
        if (known := before.get(key.key_id)) is not None:
            key.is_used = known.is_used
            if known.rate is not None and key.rate is not None and known.rate.limit == key.rate.limit:
                key.rate = known.rate
        found[key.key_id] = key
    return found


def _key_of(row: tuple[Any, ...]) -> Key:
    key_id, name, digest, scopes, expires_at, expires, requests_per_second, batch_rows_per_day = row
    until = float("inf") if not expires else 0.0
    return Key(
        key_id,
        str(name),
        bytes.fromhex(digest),
        frozenset(scopes) & _ALL,
        until=until if expires_at is None else expires_at.timestamp(),
        rate=None if requests_per_second is None else RequestRate(requests_per_second),
        batch_rows_per_day=None if batch_rows_per_day is None else int(batch_rows_per_day),
    )
