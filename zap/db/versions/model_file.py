"""The model file: an export of the version in production for data scientists. zap reads it only for its digest.

Serving does not need the file. Its folder may be full, or on a machine that does not answer. So a server writes the
file in a thread, and waits for this thread for PATIENCE_SECONDS at most.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.tables import utc_now
from zap.db.versions.model_registry import Version, artefact_of, production_version, record_file, versions_of_file
from zap.errors import DamagedModel, ZapError
from zap.ml.fitted import sha256

log = structlog.get_logger(__name__)

# How long a server waits for the folder.
PATIENCE_SECONDS = 2.0
# How long an export waits for another process that holds the lock of the file.
LOCK_SECONDS = 10.0
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
        new, changed = self._exported != version, _state(self._path) != self._seen
        if (new or changed) and time.monotonic() >= self._not_before:
            was_exported = not new
            if was_exported:
                self._not_before = time.monotonic() + RESTORE_SECONDS
            if export_or_log(self._engine, version, self._path, was_exported=was_exported):
                self._exported = version
            else:
                self._not_before = time.monotonic() + RESTORE_SECONDS
            self._seen = _state(self._path)
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


def export(engine: Engine, version: Version, model_file: Path, *, was_exported: bool = False) -> None:
    """Write `version` to the model file as an estimator for `joblib.load`, if the file does not hold it.

    A file that zap did not write is copied beside it first, because it may be the only copy of an older service's
    model. If the file was missing or had a wrong content, that is logged as an error, and `last_restored` returns it
    until the next version is exported.

    Args:
        engine: on the database.
        version: the version in production.
        model_file: the file.
        was_exported: whether the file held this version before, so that another content is an error.

    Raises:
        DamagedModel: the bytes in the database differ from the bytes that were stored.
        OSError: the file cannot be written, its path is not a file, or another process holds its lock.
    """
    model_file.parent.mkdir(parents=True, exist_ok=True)
    lock = model_file.with_name(f"{model_file.name}.lock")
    # Every export leaves the lock file: if it exists, the model file existed too.
    was_there = was_exported or lock.exists()
    # Only one process exports at a time: two processes that find a strange file must not copy each other's export.
    with FileLock(lock, timeout=LOCK_SECONDS):
        if production_version(engine) != version:
            # Another version is in production now, and the process that promoted it exports it.
            return
        found = _digest(model_file)
        known = versions_of_file(engine, found) if found else set()
        if version.model_version in known:
            return
        content = _content(engine, version)
        # An older zap, or other packages, may have made a file with another digest. The new digest is stored, so that
        # zap knows its file when the next version is exported.
        record_file(engine, version, sha256(content))
        if found == sha256(content):
            return
        if found is None:
            surprise = "it was missing" if was_there else None
        elif known:
            surprise = "it held another version" if was_exported else None
        else:
            surprise = _surprise(model_file, found)
        _write_atomically(model_file, content)
        _note(model_file, version, surprise)


def _content(engine: Engine, version: Version) -> bytes:
    """Return the bytes of the model file of a version.

    Raises:
        DamagedModel: the artefact differs from the artefact that was stored.
    """
    # Imported here, because a server needs the packages of the estimator only for an export.
    from zap.ml.export import exported  # noqa: PLC0415

    artefact = artefact_of(engine, version)
    if sha256(artefact) != version.sha256:
        raise DamagedModel(f"the stored bytes of version {version.model_version} are damaged; nothing was exported")
    return exported(artefact)


def last_restored(model_file: Path) -> dict[str, Any] | None:
    """Return when and why the file was last restored since the export of its version; None if it was not restored."""
    try:
        with _opened(_note_file(model_file)) as file:
            noted: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    return noted


def _surprise(model_file: Path, digest: str) -> str:
    """Return in words what is wrong with a file that zap did not write. Copy the file if it is not empty."""
    if digest == sha256(b""):
        return "it was empty"
    # The name contains the digest, so that a file that is put back several times is copied only once.
    aside = model_file.with_name(f"{model_file.name}.not-zap-{digest[:12]}")
    if not aside.exists():
        # The file is copied and not renamed, so that a program that opens it meanwhile finds it.
        shutil.copy2(model_file, aside)
    return f"it held bytes that zap did not write; they are kept in {aside.name}"


def _note(model_file: Path, version: Version, surprise: str | None) -> None:
    if surprise is None:
        log.info("exported the model", model_version=version.model_version, file=str(model_file))
        _note_file(model_file).unlink(missing_ok=True)
        return
    log.error("restored the model file from the database", model_version=version.model_version, reason=surprise)
    noted = {"restored_at": utc_now().isoformat(), "model_version": version.model_version, "reason": surprise}
    _write_atomically(_note_file(model_file), json.dumps(noted).encode())


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it does not exist.

    Raises:
        OSError: the path is not a file, or the file cannot be read.
    """
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file to read it. A path that is not a file is refused at once, because opening a pipe would wait."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "this is not a file; move it away", str(path))
        yield file


def _state(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change when a file changes; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    # A program can set mtime, but not ctime.
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _note_file(model_file: Path) -> Path:
    """Return the path of the note about a restored file. It is beside the model file, for all processes."""
    return model_file.with_name(f"{model_file.stem}.restored.json")


def _write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that readers see the old content or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp lets only the server's user read the file. This is kept, because the model holds drivers' habits.
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
