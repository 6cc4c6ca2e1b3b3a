"""The export of a version: the model file is written, and a file that another program changed is restored."""

import json
import shutil
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock
from sqlalchemy import Engine

from zap.db.tables import utc_now
from zap.db.versions.file_access import digest_of, opened, write_atomically
from zap.db.versions.model_registry import Version, artefact_of, production_version, record_file, versions_of_file
from zap.errors import DamagedModel
from zap.ml.fitted import sha256
from zap.sentences import say

log = structlog.get_logger(__name__)

# How long an export waits for another process that holds the lock of the file.
LOCK_SECONDS = 10.0


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
        found = digest_of(model_file)
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
        write_atomically(model_file, content)
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
        raise DamagedModel(
            say(
                "the stored bytes of version {model_version} are damaged; nothing was exported",
                model_version=version.model_version,
            )
        )
    return exported(artefact)


def last_restored(model_file: Path) -> dict[str, Any] | None:
    """Return when and why the file was last restored since the export of its version; None if it was not restored."""
    try:
        with opened(_note_file(model_file)) as file:
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
    write_atomically(_note_file(model_file), json.dumps(noted).encode())


def _note_file(model_file: Path) -> Path:
    """Return the path of the note about a restored file. It is beside the model file, for all processes."""
    return model_file.with_name(f"{model_file.stem}.restored.json")
