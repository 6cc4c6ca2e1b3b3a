"""The model file: an export of the version in production, for data scientists. It is never read but for its digest."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock
from sqlalchemy import Engine

from zap.db.model_registry import Version, artefact_of, is_known, production_version
from zap.db.tables import utc_now
from zap.errors import DamagedModel
from zap.ml.fitted import sha256

log = structlog.get_logger(__name__)


def export(engine: Engine, version: Version, model_file: Path, *, was_exported: bool = False) -> None:
    """Make the model file hold the bytes of `version`.

    A file that zap did not write is kept beside it, not overwritten: it may be all that somebody has of an older
    service. That a file was not what it should be is said loudly in the log, and by `last_restored` until the next
    version is exported.

    Args:
        engine: the database.
        version: the version in production.
        model_file: the file.
        was_exported: whether the file held these bytes before, so that it is a surprise if it does not.

    Raises:
        DamagedModel: the bytes in the database are not those that were stored.
        OSError: the file cannot be written.
    """
    model_file.parent.mkdir(parents=True, exist_ok=True)
    lock = model_file.with_name(f"{model_file.name}.lock")
    # Left by every export: where it is the file was too.
    was_there = was_exported or lock.exists()
    # Two processes that both find a strange file must not take turns moving each other's export aside.
    with FileLock(lock):
        if production_version(engine) != version:
            # Another one serves by now, and whoever put it there sees to the file.
            return
        found = model_file.read_bytes() if model_file.exists() else None
        if found is not None and sha256(found) == version.sha256:
            return
        if found is None:
            surprise = "it was missing" if was_there else None
        else:
            surprise = _surprise(engine, model_file, found, was_exported=was_exported)
        artefact = artefact_of(engine, version)
        if sha256(artefact) != version.sha256:
            raise DamagedModel(f"the stored bytes of version {version.model_version} are damaged; nothing was exported")
        _write_atomically(model_file, artefact)
        _note(model_file, version, surprise)


def last_restored(model_file: Path) -> dict[str, Any] | None:
    """When and why the file was last restored since its version was exported; None where it was not."""
    try:
        noted: dict[str, Any] = json.loads(_note_file(model_file).read_text())
    except (OSError, ValueError):
        return None
    return noted


def _surprise(engine: Engine, model_file: Path, found: bytes, *, was_exported: bool) -> str | None:
    """What is wrong with the file that is there; a strange one is kept."""
    if not found:
        return "it was empty"
    digest = sha256(found)
    if is_known(engine, digest):
        return "it held another version" if was_exported else None
    # Named by what it holds: the same file is kept once, however often somebody puts it there.
    aside = model_file.with_name(f"{model_file.name}.not-zap-{digest[:12]}")
    if not aside.exists():
        # Copied, not renamed: whoever reads the file meanwhile finds one.
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


def _note_file(model_file: Path) -> Path:
    """Beside the file, where every process of this machine finds it."""
    return model_file.with_name(f"{model_file.stem}.restored.json")


def _write_atomically(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
