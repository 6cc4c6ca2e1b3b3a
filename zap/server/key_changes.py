"""Changes of keys that a request asks for. The process that makes a change knows it at once."""

from datetime import timedelta
from typing import Any

from litestar.datastructures import State

from zap.db.api_keys import MadeKey, create_key, revoke_keys, rotate_key
from zap.errors import KeyRefused, NotFound
from zap.formats.api_key import is_key_id
from zap.formats.key_options import KeyOptions
from zap.sentences import say
from zap.server.keys import Keys


class KeyChanges:
    """Change keys. All methods ask the database, so call them in a thread.

    Args:
        state: of the application.
    """

    def __init__(self, state: State) -> None:
        self._engine = state.engine
        self._keys: Keys = state.api_keys

    def create(self, options: KeyOptions) -> MadeKey:
        """Make a key.

        Raises:
            KeyRefused: there is no key yet, so that anybody could lock the operator out; or the name is taken.
        """
        if not self._keys.is_closed:
            raise KeyRefused(
                say("there is no key yet; make the first one on the command line: zap keys create NAME --scope admin")
            )
        made = create_key(self._engine, options)
        self._keys.look(self._engine)
        return made

    def rotate(self, key_id: str, keep: timedelta) -> MadeKey:
        """Make a new key for an old one.

        Raises:
            NotFound: there is no such key in use.
            KeyRefused: the key was rotated already.
        """
        made = rotate_key(self._engine, _known(key_id), keep)
        self._keys.look(self._engine)
        return made

    def revoke(self, key_id: str) -> dict[str, Any]:
        """End a key, and return its row.

        Raises:
            NotFound: there is no such key in use.
            KeyRefused: no key with the scope admin would be left.
        """
        (row,) = revoke_keys(self._engine, _known(key_id), keeps_admin=not self._keys.has_setting, by_id=True)
        self._keys.look(self._engine)
        return row


def _known(key_id: str) -> str:
    if not is_key_id(key_id):
        raise NotFound(say("no key has the id {key_id}", key_id=key_id[:50]))
    return key_id
