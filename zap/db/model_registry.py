"""The model versions: their bytes, which one is in production, and the file that is an export of it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from filelock import FileLock
from sqlalchemy import Connection, Engine, insert, select, update
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.tables import ModelVersion, utc_now
from zap.errors import DamagedModel, NotFound, TrainingFailed
from zap.ml.model import ChargerTypeModel, sha256

log = structlog.get_logger(__name__)


class Version(NamedTuple):
    """A model version and the SHA-256 of its artefact."""

    model_version: int
    sha256: str


def add_candidate(engine: Engine, run_id: int, model: ChargerTypeModel) -> Version:
    """Store a fitted model's bytes as a new version that does not serve yet."""
    artefact, digest = model.to_bytes()
    with write_transaction(engine) as connection:
        number = connection.execute(
            insert(ModelVersion).returning(col(ModelVersion.model_version)),
            {
                "run_id": run_id,
                "status": "candidate",
                "created_at": utc_now(),
                "artefact": artefact,
                "sha256": digest,
                "hyper_parameters": model.get_params(),
                "contract": model.contract_,
            },
        ).scalar_one()
    return Version(number, digest)


def promote(connection: Connection, model_version: int, evaluation: Mapping[str, Any]) -> None:
    """Make a candidate the version that serves; the one that served is archived.

    Raises:
        TrainingFailed: it is no candidate any more.
    """
    candidate = (col(ModelVersion.model_version) == model_version) & (col(ModelVersion.status) == "candidate")
    connection.execute(update(ModelVersion).where(col(ModelVersion.status) == "production").values(status="archived"))
    promoted = connection.execute(
        update(ModelVersion).where(candidate).values(status="production", evaluation=dict(evaluation))
    )
    if promoted.rowcount != 1:
        raise TrainingFailed(f"version {model_version} is no candidate any more; nothing was promoted")


def production_version(engine: Engine) -> Version | None:
    """The version that serves, or None before the first training."""
    with engine.connect() as connection:
        row = connection.execute(
            select(col(ModelVersion.model_version), col(ModelVersion.sha256)).where(
                col(ModelVersion.status) == "production"
            )
        ).one_or_none()
    return None if row is None else Version(row[0], row[1])


def version(engine: Engine, number: int) -> Version:
    """The version with a number, whatever its status.

    Raises:
        NotFound: there is none.
    """
    with engine.connect() as connection:
        digest = connection.scalar(select(col(ModelVersion.sha256)).where(col(ModelVersion.model_version) == number))
    if digest is None:
        raise NotFound(f"there is no model version {number}")
    return Version(number, digest)


def load_version(engine: Engine, version: Version) -> ChargerTypeModel:
    """The model of a version, unpickled only if its bytes are those that were stored.

    Raises:
        DamagedModel: they are not, or they do not fit this code.
    """
    return ChargerTypeModel.from_bytes(_artefact(engine, version), version.sha256)


def export(engine: Engine, version: Version, model_file: Path) -> None:
    """Make the model file hold the bytes of `version`. It is never read but for its digest.

    A file that zap did not write is moved aside, not overwritten: it may be all that somebody has of an older service.
    """
    model_file.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that both find a strange file must not take turns moving each other's export aside.
    with FileLock(f"{model_file}.lock"):
        found = sha256(model_file.read_bytes()) if model_file.exists() else None
        if found == version.sha256:
            return
        if found is not None and not _is_known(engine, found):
            # Named by what it holds: the same file is kept once, however often somebody puts it there.
            aside = model_file.with_name(f"{model_file.name}.not-zap-{found[:12]}")
            if not aside.exists():
                # Copied, not renamed: whoever reads the file meanwhile finds one.
                shutil.copy2(model_file, aside)
            log.error("a model file that zap did not write was moved aside", moved_to=str(aside))
        artefact = _artefact(engine, version)
        if sha256(artefact) != version.sha256:
            raise DamagedModel(f"the stored bytes of version {version.model_version} are damaged; nothing was exported")
        _write_atomically(model_file, artefact)
        log.info("exported the model", model_version=version.model_version, file=str(model_file))


def _artefact(engine: Engine, version: Version) -> bytes:
    with engine.connect() as connection:
        return bytes(
            connection.scalar(
                select(col(ModelVersion.artefact)).where(col(ModelVersion.model_version) == version.model_version)
            )
            or b""
        )


def _is_known(engine: Engine, digest: str) -> bool:
    with engine.connect() as connection:
        found = connection.scalar(
            select(col(ModelVersion.model_version)).where(col(ModelVersion.sha256) == digest).limit(1)
        )
    return found is not None


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
