"""The model versions: their bytes, what is known about each, and the check before one is loaded."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlmodel import col

from zap.db.tables import ModelVersion, utc_now
from zap.errors import DamagedModel, NotFound
from zap.ml.artefact import check_artefact
from zap.ml.fitted import FittedModel, sha256

_COLUMNS = ModelVersion.__table__.columns  # type: ignore[attr-defined]
# What a list of versions shows, and of the evaluation only the scores; one version shows all but the bytes.
_LISTED = ("model_version", "status", "created_at", "run_id", "trained_samples", "test_samples", "note", "evaluation")
_DESCRIBED = ("features", "columns", "classes", "golden")


class Version(NamedTuple):
    """A model version and the SHA-256 of its artefact."""

    model_version: int
    sha256: str


def add_candidate(connection: Connection, run_id: int, artefact: bytes, known: Mapping[str, Any]) -> Version:
    """Store a fitted model as a new version that does not serve yet.

    Args:
        connection: a transaction that writes.
        run_id: its training run.
        artefact: the model's bytes.
        known: the other columns of its row.
    """
    digest = sha256(artefact)
    row = {
        "run_id": run_id,
        "status": "candidate",
        "created_at": utc_now(),
        "artefact": artefact,
        "sha256": digest,
        **known,
    }
    number = connection.execute(insert(ModelVersion).returning(col(ModelVersion.model_version)), row).scalar_one()
    return Version(number, digest)


def production_version(engine: Engine) -> Version | None:
    """The version that serves, or None before the first training."""
    serves = col(ModelVersion.status) == "production"
    with engine.connect() as connection:
        row = connection.execute(
            select(col(ModelVersion.model_version), col(ModelVersion.sha256)).where(serves)
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


def read_version(engine: Engine, number: int) -> dict[str, Any]:
    """All that is known of one version, its bytes as their number: `artefact_bytes`, None where they were pruned.

    Raises:
        NotFound: there is none.
    """
    names = [column.name for column in _COLUMNS if column.name != "artefact"]
    rows = _read(engine, names, [col(ModelVersion.model_version) == number], limit=1)
    if not rows:
        raise NotFound(f"there is no model version {number}")
    return rows[0]


def list_versions(engine: Engine, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest versions, newest first; `before` a number, where it is given."""
    older = [] if before is None else [col(ModelVersion.model_version) < before]
    rows = _read(engine, _LISTED, older, limit)
    return [{"scores": _scores(row.pop("evaluation")), **row} for row in rows]


def _scores(evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The headline of an evaluation."""
    if not evaluation:
        return None
    best = evaluation["best_baseline"]
    return {
        "test_f1_score": evaluation["test_f1_score"],
        "log_loss": evaluation["log_loss"],
        "best_baseline": best,
        "best_baseline_log_loss": evaluation["baselines"][best]["log_loss"],
        "beats_baseline": evaluation["beats_baseline"],
    }


def load_version(engine: Engine, version: Version) -> FittedModel:
    """The model of a version, read only if its bytes are those that were stored, and checked against this code.

    Raises:
        DamagedModel: they are not, or the model is not what this code takes it for; says what differs.
    """
    this = col(ModelVersion.model_version) == version.model_version
    described = select(*(_COLUMNS[name] for name in _DESCRIBED)).where(this)
    with engine.connect() as connection:
        row = connection.execute(described).mappings().one_or_none()
    model = FittedModel.from_bytes(artefact_of(engine, version), version.sha256)
    check_artefact(model, dict(row) if row else dict.fromkeys(_DESCRIBED))
    return model


def artefact_of(engine: Engine, version: Version) -> bytes:
    """The stored bytes of a version, not checked yet; none where there is no such version.

    Raises:
        DamagedModel: they were pruned.
    """
    this = col(ModelVersion.model_version) == version.model_version
    with engine.connect() as connection:
        row = connection.execute(select(col(ModelVersion.artefact)).where(this)).one_or_none()
    if row is None:
        return b""
    if row[0] is None:
        raise DamagedModel(f"the artefact of version {version.model_version} was pruned, as it never served")
    return bytes(row[0])


def prune_candidates(connection: Connection, keep: int) -> list[int]:
    """Remove the bytes of all candidates but the newest so many; what is known of them stays. Their numbers."""
    candidates = col(ModelVersion.status) == "candidate"
    newest = select(col(ModelVersion.model_version)).where(candidates)
    newest = newest.order_by(col(ModelVersion.model_version).desc()).limit(keep)
    old = candidates & col(ModelVersion.artefact).is_not(None) & col(ModelVersion.model_version).not_in(newest)
    pruned = update(ModelVersion).where(old).values(artefact=None).returning(col(ModelVersion.model_version))
    return sorted(connection.scalars(pruned))


def is_known(engine: Engine, digest: str) -> bool:
    """Whether these are the bytes of some version."""
    with engine.connect() as connection:
        found = connection.scalar(
            select(col(ModelVersion.model_version)).where(col(ModelVersion.sha256) == digest).limit(1)
        )
    return found is not None


def _read(engine: Engine, names: Any, conditions: list[Any], limit: int) -> list[dict[str, Any]]:
    size = func.length(col(ModelVersion.artefact)).label("artefact_bytes")
    rows = select(*(_COLUMNS[name] for name in names), size).where(*conditions)
    rows = rows.order_by(col(ModelVersion.model_version).desc()).limit(limit)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(rows).mappings()]
