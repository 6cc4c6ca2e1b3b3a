"""The model file: an export of the version in production for data scientists. zap reads it only for its digest.

Serving does not need the file. Its folder may be full, or on a machine that does not answer. So a server writes the
file in a thread, and waits for this thread for PATIENCE_SECONDS at most.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.versions.file_access import state_of
from zap.db.versions.model_export import LOCK_SECONDS, export, last_restored
from zap.db.versions.model_registry import Version
from zap.errors import ZapError

log = structlog.get_logger(__name__)

# How long a server waits for the folder.
PATIENCE_SECONDS = 2.0
# The pause before a restored file is restored again: otherwise two servers with different databases and one folder
# would overwrite each other's file all the time. It is also the pause after a failed export.
RESTORE_SECONDS = 30


class ModelFile:
    """Keep the model file up to date, for one process.

    Attributes:
        restored: the result of `last_restored` at the last check.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self.restored: dict[str, Any] | None = None
        self._engine = engine
        self._path = path
        self._wanted: Version | None = None
        self._exported: Version | None = None
        self._seen: tuple[int, ...] | None = None
        self._not_before = 0.0
        self._look: threading.Thread | None = None

    def keep(self, version: Version) -> None:
        """Export `version`, the version in production, if the file does not hold it.

        Return after PATIENCE_SECONDS at most. A check that takes longer goes on, and no second check begins meanwhile.
        """
        if self._look is not None and self._look.is_alive():
            return
        self._look = in_a_thread(lambda: self._keep(version), PATIENCE_SECONDS)
        if self._look.is_alive():
            log.error("the models folder does not answer; zap serves without the model file", file=str(self._path))

    def _keep(self, version: Version) -> None:
        if version != self._wanted:
            self._wanted, self._not_before = version, 0.0
        new, changed = self._exported != version, state_of(self._path) != self._seen
        if (new or changed) and time.monotonic() >= self._not_before:
            was_exported = not new
            if was_exported:
                self._not_before = time.monotonic() + RESTORE_SECONDS
            if export_or_log(self._engine, version, self._path, was_exported=was_exported):
                self._exported = version
            else:
                self._not_before = time.monotonic() + RESTORE_SECONDS
            self._seen = state_of(self._path)
        self.restored = last_restored(self._path)


def in_a_thread(call: Callable[[], object], seconds: float) -> threading.Thread:
    """Run `call` in a daemon thread, and wait for it for `seconds` at most. Return the thread."""
    thread = threading.Thread(target=call, name="model-file", daemon=True)
    thread.start()
    thread.join(seconds)
    return thread


def export_in_time(engine: Engine, version: Version, model_file: Path) -> None:
    """Export `version`, or log why it cannot be exported, within LOCK_SECONDS + PATIENCE_SECONDS."""
    thread = in_a_thread(lambda: export_or_log(engine, version, model_file), LOCK_SECONDS + PATIENCE_SECONDS)
    if thread.is_alive():
        log.error("the models folder does not answer; the version serves without the file", file=str(model_file))


def export_or_log(engine: Engine, version: Version, model_file: Path, *, was_exported: bool = False) -> bool:
    """Export `version`, or log why it cannot be exported. Return whether it was exported."""
    try:
        export(engine, version, model_file, was_exported=was_exported)
    except (OSError, SQLAlchemyError, ZapError) as error:
        log.error("the model file cannot be written", file=str(model_file), error=str(error))
        return False
    return True
