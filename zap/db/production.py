"""Production: the version that serves in this process, kept the one that the database names."""

import threading
import time
from pathlib import Path

import structlog
from sqlalchemy import Engine

from zap.db.model_file import export
from zap.db.model_registry import Version, load_version, production_version
from zap.errors import NoModel, ZapError
from zap.ml.inference import Predictor

log = structlog.get_logger(__name__)

# A file that was put back is put back again no sooner: two servers of different databases that were given one folder
# would take turns without end.
RESTORE_SECONDS = 30
# Somebody may mend what could not be loaded.
RETRY_SECONDS = 60


class Production:
    """Holds the predictor of the production version. Swapping it is one assignment: a request sees one or the other."""

    def __init__(self, engine: Engine, model_file: Path) -> None:
        self._engine = engine
        self._model_file = model_file
        self._predictor: Predictor | None = None
        # A version that could not be loaded is tried and reported now and then, not twice a second.
        self._refused: tuple[Version, str] | None = None
        self._file_seen: tuple[int, ...] | None = None
        self._restore_after = self._retry_after = 0.0
        self._refreshing = threading.Lock()

    @property
    def refused(self) -> str | None:
        """Why the version that the database names does not serve here; None where it does."""
        return f"version {self._refused[0].model_version}: {self._refused[1]}" if self._refused else None

    @property
    def predictor(self) -> Predictor:
        """The predictor that serves.

        Raises:
            NoModel: nothing was trained yet, or what was cannot be loaded.
        """
        if self._predictor is None:
            reason = (
                f"the stored one cannot be used: {self._refused[1]}" if self._refused else "nothing was trained yet"
            )
            raise NoModel(f"{reason}; POST /train-model or `zap train` makes one")
        return self._predictor

    def refresh(self) -> None:
        """Serve the version that the database names, and keep the model file an export of it.

        A version that cannot be loaded changes nothing: the one that was serving keeps serving.
        """
        with self._refreshing:
            version = production_version(self._engine)
            if version is None:
                return
            serving = self._predictor
            new = serving is None or serving.model_version != version.model_version
            if not new:
                # What was refused is not what the database names any more.
                self._refused = None
            elif self._refused and self._refused[0] == version and time.monotonic() < self._retry_after:
                return
            if new:
                try:
                    self._predictor = Predictor(load_version(self._engine, version), version.model_version)
                except ZapError as error:
                    self._refused = (version, error.message)
                    self._retry_after = time.monotonic() + RETRY_SECONDS
                    log.error(
                        "the production version cannot be loaded",
                        model_version=version.model_version,
                        reason=error.message,
                    )
                    return
                self._refused = None
                log.info("serving", model_version=version.model_version)
            if new:
                self._export(version)
            elif self._file_state() != self._file_seen and time.monotonic() >= self._restore_after:
                self._restore_after = time.monotonic() + RESTORE_SECONDS
                self._export(version, was_exported=True)

    def _export(self, version: Version, *, was_exported: bool = False) -> None:
        try:
            export(self._engine, version, self._model_file, was_exported=was_exported)
        except (OSError, ZapError) as error:
            # The file is for data scientists; serving does not need it.
            log.error("the model file cannot be written", file=str(self._model_file), error=str(error))
        self._file_seen = self._file_state()

    def _file_state(self) -> tuple[int, ...] | None:
        try:
            found = self._model_file.stat()
        except OSError:
            return None
        # Who sets the time of a change cannot set that of this one.
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
