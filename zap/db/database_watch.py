"""DatabaseWatch: checks for a replaced SQLite file, a growing WAL, and an upgrade by a newer zap."""

import time

import structlog
from sqlalchemy import Engine

from zap.db.database_file import DatabaseFile
from zap.db.engine import WAL_BYTES, file_of
from zap.db.schema import check_at_head
from zap.errors import DatabaseAhead, DatabaseBehind, DatabaseReplaced

log = structlog.get_logger(__name__)

# How often a large WAL is emptied if no connection reads from it.
_CHECKPOINT_SECONDS = 5.0
# A larger WAL causes a warning: every read searches it, and it fills the disk.
_LARGE_BYTES = 4 * WAL_BYTES
# How often the revision is checked.
_REVISION_SECONDS = 5.0


class DatabaseWatch:
    """Check the files of the database (on SQLite) and its revision. A watch calls `look` twice a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file = file_of(engine)
        self._replaced = False
        self._warning: str | None = None
        self._checkpoint_after = 0.0
        # A warning about the schema, and an error.
        self._revision: tuple[str | None, str | None] = None, None
        self._revision_after = 0.0

    @property
    def warning(self) -> str | None:
        """Return a warning about the database although it works; None if there is none."""
        return "; ".join(filter(None, (self._revision[0], self._warning))) or None

    def look(self) -> None:
        """Check the files and the revision, log each change once, and keep the WAL small."""
        if self._file is not None:
            self._look_at_file(self._file)
        if not self._replaced and time.monotonic() >= self._revision_after:
            self._revision_after = time.monotonic() + _REVISION_SECONDS
            self._look_at_revision()

    def _look_at_revision(self) -> None:
        """Notice an upgrade by a newer zap, missing triggers, and whether this zap can still use the database."""
        before = self._revision
        try:
            self._revision = check_at_head(self._engine), None
        except (DatabaseAhead, DatabaseBehind) as error:
            self._revision = None, error.message
        warning, wrong = self._revision
        if wrong and self._revision != before:
            log.error("this zap cannot use the schema of the database any more", reason=wrong)
        elif warning and self._revision != before:
            log.warning("the schema of the database is not the schema that this zap makes", reason=warning)

    def _look_at_file(self, file: DatabaseFile) -> None:
        try:
            file.check()
            if self._replaced:
                self._replaced = False
                log.warning("the database file is back; zap uses it again")
            if time.monotonic() >= self._checkpoint_after:
                self._checkpoint_after = time.monotonic() + _CHECKPOINT_SECONDS
                self._note_size(file.checkpoint(WAL_BYTES))
        except DatabaseReplaced as error:
            if not self._replaced:
                self._replaced = True
                log.error("the database file is not the one that was opened", reason=error.message)
            # At every look, because other processes may still write until they notice the replacement too.
            file.secure()

    def _note_size(self, size: int) -> None:
        if size <= _LARGE_BYTES:
            if self._warning:
                log.info("the WAL of the database is small again", bytes=size)
            self._warning = None
            return
        warning = (
            f"the WAL of the database has {size / 2**20:,.0f} MiB and grows, because a transaction has been reading "
            "for long; look for a backup or a program that keeps a transaction open, and end it"
        )
        if self._warning is None:
            log.warning("the WAL of the database grows", bytes=size, reason=warning)
        self._warning = warning
