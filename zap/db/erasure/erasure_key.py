"""The key of erasures, with which the ledger hashes the ids of erased drivers.

The key is a setting, or a file beside the model file: not beside the database, so that a stolen database or backup
does not say who was erased. Without the key, an older backup cannot be searched for the drivers of the ledger.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from zap.errors import NoErasureKey
from zap.sentences import say

FILE_NAME = "erasure.key"
SHORTEST = 32
_KEY_ID_CHARACTERS = 16


class ErasureKey(NamedTuple):
    """The key of erasures."""

    secret: str

    @property
    def key_id(self) -> str:
        """Return the id of the key, from which nobody can compute the key."""
        return hashlib.sha256(b"the id of a key of erasures\0" + self.secret.encode()).hexdigest()[:_KEY_ID_CHARACTERS]

    def hash_of(self, user_id: str) -> str:
        """Return the keyed hash of a driver's id, as the ledger has it."""
        return hmac.digest(self.secret.encode(), user_id.encode(errors="surrogatepass"), "sha256").hex()


def stored_key(setting: str | None, folder: Path) -> ErasureKey | None:
    """Return the key of the setting, or of the file; None if there is neither.

    Args:
        setting: ZAP_ERASURE_KEY.
        folder: ZAP_MODELS_DIR.

    Raises:
        NoErasureKey: the file holds no key.
    """
    if setting is not None:
        return ErasureKey(setting)
    file = folder / FILE_NAME
    try:
        secret = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < SHORTEST:
        raise NoErasureKey(say("{name} does not hold a key of erasures: put the file of a backup back", name=FILE_NAME))
    return ErasureKey(secret)


def new_key(folder: Path) -> ErasureKey:
    """Make the file of the key, which only its user can read. If another process has made it, return its key."""
    folder.mkdir(parents=True, exist_ok=True)
    file, secret = folder / FILE_NAME, secrets.token_hex(32)
    part = folder / f"{FILE_NAME}.{os.getpid()}.part"
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as written:
        written.write(f"{secret}\n")
        written.flush()
        os.fsync(written.fileno())
    try:
        # A link, unlike a new name, does not replace a file that is there.
        os.link(part, file)
    except FileExistsError:
        return stored_key(None, folder) or ErasureKey(secret)
    finally:
        part.unlink()
    return ErasureKey(secret)
