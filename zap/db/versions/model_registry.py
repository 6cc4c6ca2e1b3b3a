"""The model versions: their artefacts, the facts about them, and the check before a version is loaded."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.erasure.learned_versions import erased_during
from zap.db.monitoring_tables import Trial
from zap.db.shapes import COUNT
from zap.db.stored_json import as_bytes, part, readable
from zap.db.tables import ModelVersion, TrainingRun, utc_now
from zap.errors import DamagedModel, NotFound
from zap.ml.artefact import check_artefact
from zap.ml.fitted import FittedModel, sha256
from zap.sentences import say

_COLUMNS = ModelVersion.__table__.columns  # type: ignore[attr-defined]
# The columns for a list of versions (only the scores of the evaluation), and the columns that describe an artefact.
_LISTED = ("model_version", "status", "created_at", "run_id", "trained_samples", "test_samples", "note", "evaluation")
# The parts of a stored evaluation that are no scores.
MEASURED = ("importances", "usual_values", "tested")
_DESCRIBED = ("features", "columns", "classes", "golden")


# The synthetic sessions of a version, from the report of its training. The number is NULL for the versions of an older
# zap, and until the training has ended.
_SYNTHETIC = part(col(TrainingRun.report), "synthetic_sessions", COUNT)


class Version(NamedTuple):
    """A model version and the SHA-256 of its artefact."""

    model_version: int
    sha256: str


def add_candidate(connection: Connection, run_id: int, artefact: bytes, known: Mapping[str, Any]) -> Version:
    """Store a fitted model as a new candidate, which does not serve yet, with the digest of its model file.

    Args:
        connection: a transaction that writes.
        run_id: its training run.
        artefact: the model's bytes.
        known: the other columns of its row.

    Returns:
        The new version.
    """
    # Imported here, because a process that only serves does not need the packages of the estimator.
    from zap.ml.export import exported  # noqa: PLC0415

    digest = sha256(artefact)
    row = {
        "run_id": run_id,
        "status": "candidate",
        "created_at": utc_now(),
        "artefact": artefact,
        "sha256": digest,
        "file_sha256": sha256(exported(artefact)),
        **known,
    }
    if erased_during(connection, run_id):
        # An example may be a session of the driver who was erased, and examples have no ids.
        row["golden"] = None
    number = connection.execute(insert(ModelVersion).returning(col(ModelVersion.model_version)), row).scalar_one()
    return Version(number, digest)


def production_version(engine: Engine) -> Version | None:
    """Return the version in production; None before the first training."""
    serves = col(ModelVersion.status) == "production"
    with engine.connect() as connection:
        row = connection.execute(
            select(col(ModelVersion.model_version), col(ModelVersion.sha256)).where(serves)
        ).one_or_none()
    return None if row is None else Version(row[0], row[1])


def version(engine: Engine, number: int) -> Version:
    """Return the version with this number. It may have any status.

    Raises:
        NotFound: there is no such version.
    """
    with engine.connect() as connection:
        digest = connection.scalar(select(col(ModelVersion.sha256)).where(col(ModelVersion.model_version) == number))
    if digest is None:
        raise NotFound(say("there is no model version {number}", number=number))
    return Version(number, digest)


def read_version(engine: Engine, number: int) -> dict[str, Any]:
    """Return all columns of a version, its main scores as `scores`, and the `synthetic_sessions` of its training.

    The parts MEASURED of the stored evaluation have names of their own. They are None for the versions of an older zap.
    Instead of the artefact there is its size, `artefact_bytes`, which is None if the artefact was pruned. What cannot
    be read is None too, and `unreadable` has its names.

    Raises:
        NotFound: there is no such version.
    """
    names = [column.name for column in _COLUMNS if column.name != "artefact"]
    rows = _read(engine, names, [col(ModelVersion.model_version) == number], limit=1)
    if not rows:
        raise NotFound(say("there is no model version {number}", number=number))
    (row,) = rows
    measured = {name: (row["evaluation"] or {}).pop(name, None) for name in MEASURED}
    return {"scores": _scores(row["evaluation"]), **row, **measured}


def list_versions(engine: Engine, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """Return the newest versions, newest first.

    Args:
        engine: on the database.
        limit: the most versions to return.
        before: return versions with a smaller number.

    Returns:
        For each version its main columns, its main scores as `scores`, and the names of what cannot be read as
        `unreadable`.
    """
    older = [] if before is None else [col(ModelVersion.model_version) < before]
    rows = _read(engine, _LISTED, older, limit)
    return [{"scores": _scores(row.pop("evaluation")), **row} for row in rows]


def verdict_of_version(engine: Engine, number: int) -> dict[str, Any] | None:
    """Return how a version compares with the baselines (`judged` of its evaluation); None for an older version."""
    this = col(ModelVersion.model_version) == number
    with engine.connect() as connection:
        evaluation = connection.scalar(select(col(ModelVersion.evaluation)).where(this))
    judged: dict[str, Any] | None = (evaluation or {}).get("judged")
    return judged


def stored_usual_values(engine: Engine, number: int) -> dict[str, Any] | None:
    """Return the usual values of a version's training sessions; None for an older version."""
    this = col(ModelVersion.model_version) == number
    with engine.connect() as connection:
        evaluation = connection.scalar(select(col(ModelVersion.evaluation)).where(this))
    found: dict[str, Any] | None = (evaluation or {}).get("usual_values")
    return found


def synthetic_sessions(engine: Engine, number: int) -> int | None:
    """Return how many synthetic sessions the history of a version's training had; None if this is not known."""
    of_run = select(_SYNTHETIC).join(ModelVersion, col(ModelVersion.run_id) == col(TrainingRun.run_id))
    with engine.connect() as connection:
        found = connection.scalar(of_run.where(col(ModelVersion.model_version) == number))
    return found if isinstance(found, int) else None


def _scores(evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the main scores of an evaluation, each beside the best baseline's, and the verdict with its sessions.

    Versions from an older zap were compared with one baseline, by intervals that were too narrow, so they have no
    verdict.
    """
    if not evaluation or "baselines" not in evaluation:
        return None
    baselines, best = evaluation["baselines"], evaluation["best_baseline"]
    by_f1 = max(baselines, key=lambda name: baselines[name]["weighted_f1"])
    judged = evaluation.get("judged")
    return {
        "test_f1_score": evaluation["test_f1_score"],
        "best_baseline_by_f1": by_f1,
        "best_baseline_f1_score": baselines[by_f1]["weighted_f1"],
        "log_loss": evaluation["log_loss"],
        "best_baseline": best,
        "best_baseline_log_loss": baselines[best]["log_loss"],
        "verdict": evaluation.get("verdict"),
        "judged_on": judged and {name: judged.get(name) for name in ("sessions_of", "sessions", "from", "until")},
        "beats_baseline": evaluation["beats_baseline"] if judged else None,
    }


def load_version(engine: Engine, version: Version) -> FittedModel:
    """Return the model of a version, after a check of its digest and of its agreement with this code.

    Raises:
        DamagedModel: the bytes differ from the bytes that were stored, or this code cannot use the model. The message
            says what differs.
    """
    this = col(ModelVersion.model_version) == version.model_version
    described = select(*(_COLUMNS[name] for name in _DESCRIBED)).where(this)
    with engine.connect() as connection:
        row = connection.execute(described).mappings().one_or_none()
    model = FittedModel.from_bytes(artefact_of(engine, version), version.sha256)
    check_artefact(model, dict(row) if row else dict.fromkeys(_DESCRIBED))
    return model


def artefact_of(engine: Engine, version: Version) -> bytes:
    """Return the stored artefact of a version, unchecked; empty bytes if there is no such version.

    Raises:
        DamagedModel: the artefact was pruned.
    """
    this = col(ModelVersion.model_version) == version.model_version
    with engine.connect() as connection:
        row = connection.execute(select(col(ModelVersion.artefact)).where(this)).one_or_none()
    if row is None:
        return b""
    if row[0] is None:
        raise DamagedModel(
            say(
                "the artefact of version {model_version} was pruned, as the version never served",
                model_version=version.model_version,
            )
        )
    return as_bytes(row[0])


def prune_candidates(connection: Connection, keep: int) -> list[int]:
    """Remove the artefacts of candidates, and return the pruned versions.

    The newest `keep` candidates and the candidates on trial keep their artefacts. All rows stay.
    """
    candidates = col(ModelVersion.status) == "candidate"
    on_trial = select(col(Trial.model_version)).where(col(Trial.status) == "running")
    newest = select(col(ModelVersion.model_version)).where(candidates)
    newest = newest.order_by(col(ModelVersion.model_version).desc()).limit(keep)
    old = candidates & col(ModelVersion.artefact).is_not(None) & col(ModelVersion.model_version).not_in(newest)
    old &= col(ModelVersion.model_version).not_in(on_trial)
    pruned = update(ModelVersion).where(old).values(artefact=None).returning(col(ModelVersion.model_version))
    return sorted(connection.scalars(pruned))


def record_file(engine: Engine, version: Version, digest: str) -> None:
    """Store the SHA-256 of the model file of a version, if another digest or none is stored."""
    this = col(ModelVersion.model_version) == version.model_version
    other = col(ModelVersion.file_sha256).is_distinct_from(digest)
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).where(this & other).values(file_sha256=digest))


def versions_of_file(engine: Engine, digest: str) -> set[int]:
    """Return the versions whose model file has this SHA-256."""
    this = col(ModelVersion.file_sha256) == digest
    with engine.connect() as connection:
        return set(connection.scalars(select(col(ModelVersion.model_version)).where(this)))


def _read(engine: Engine, names: Any, conditions: list[Any], limit: int) -> list[dict[str, Any]]:
    size = func.length(col(ModelVersion.artefact)).label("artefact_bytes")
    rows = select(*(_COLUMNS[name] for name in names), size, _SYNTHETIC).where(*conditions)
    rows = rows.outerjoin(TrainingRun, col(TrainingRun.run_id) == col(ModelVersion.run_id))
    rows = rows.order_by(col(ModelVersion.model_version).desc()).limit(limit)
    with engine.connect() as connection:
        return [readable(row) for row in connection.execute(rows).mappings()]
