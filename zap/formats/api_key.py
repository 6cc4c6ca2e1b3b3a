"""The form of a key: `zap_`, its id, `_`, its secret, and a checksum of everything before it.

Scanners of secrets find keys by this form. The checksum tells a key with a typing error from a key that was revoked,
without the database.
"""

import re
import secrets
import string
import zlib
from typing import NamedTuple

_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 8, 30, 6
_FORM = re.compile(
    rf"(zap_([0-9A-Za-z]{{{_ID_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})",
    re.ASCII,
)
_ID = re.compile(rf"[0-9A-Za-z]{{{_ID_LENGTH}}}", re.ASCII)
PREFIX = "zap_"


class NewKey(NamedTuple):
    """A key that was just made, and its id, which is no secret."""

    key_id: str
    key: str


def new_key() -> NewKey:
    """Make a key. Its secret has 178 bits from the system's source of random numbers."""
    key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
    begin = f"{PREFIX}{key_id}_{secret}"
    return NewKey(key_id, begin + _checksum(begin))


def is_whole(key: str) -> bool:
    """Return whether a text has the form of a key and the right checksum. It need not be the key of any server."""
    found = _FORM.fullmatch(key)
    return found is not None and _checksum(found[1]) == found[3]


def is_key_id(text: str) -> bool:
    """Return whether a text has the form of the id of a key."""
    return _ID.fullmatch(text) is not None


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _checksum(begin: str) -> str:
    """Return the CRC-32 of a text in base 62."""
    left, letters = zlib.crc32(begin.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        left, place = divmod(left, len(_LETTERS))
        letters = _LETTERS[place] + letters
    return letters
