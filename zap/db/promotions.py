"""The promotions: which version serves, changed by whom and why, and the way back."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.model_registry import load_version, version
from zap.db.tables import ModelVersion, Promotion, TrainingRun, utc_now
from zap.errors import DamagedModel, NotPromotable
from zap.ml.promotion_reason import Reason

# Any constant will do, as long as every zap on one PostgreSQL database uses the same.
_PROMOTION_LOCK_KEY = 0x7A61_7004


class Change(NamedTuple):
    """What a promotion did; `changed` is false where the version served already."""

    from_version: int | None
    to_version: int
    changed: bool


def promote(connection: Connection, number: int, reason: Reason, action: str = "promote") -> Change:
    """Make a version the one that serves, and record it; the one that served is archived.

    Raises:
        NotPromotable: there is no such version any more, or its bytes were pruned.
    """
    before = serving_version(connection)
    if before == number:
        return Change(before, number, changed=False)
    serves = col(ModelVersion.status) == "production"
    connection.execute(update(ModelVersion).where(serves).values(status="archived"))
    this = (col(ModelVersion.model_version) == number) & col(ModelVersion.artefact).is_not(None)
    if connection.execute(update(ModelVersion).where(this).values(status="production")).rowcount != 1:
        raise NotPromotable(f"version {number} is not there any more, or its artefact was pruned a moment ago")
    row = {"promoted_at": utc_now(), "action": action, "from_version": before, "to_version": number}
    connection.execute(insert(Promotion), row | reason._asdict())
    return Change(before, number, changed=True)


def serving_version(connection: Connection) -> int | None:
    """The version in production. Until this transaction ends nobody else changes it."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_PROMOTION_LOCK_KEY)))
    serves = col(ModelVersion.status) == "production"
    number: int | None = connection.scalar(select(col(ModelVersion.model_version)).where(serves))
    return number


def promote_version(engine: Engine, number: int, reason: Reason) -> Change:
    """Put any version into production that this code can serve.

    Raises:
        NotFound: there is no such version.
        NotPromotable: its artefact was pruned, or cannot be used; what serves still does.
    """
    _check_usable(engine, number)
    with write_transaction(engine) as connection:
        return promote(connection, number, reason)


def roll_back(engine: Engine, reason: Reason) -> Change:
    """Put the version back into production that served before the one that serves.

    Raises:
        NotPromotable: there is none, or it cannot be used; what serves still does.
    """
    with engine.connect() as connection:
        target = _earlier(connection)
    # Loading takes longer than others should wait for their turn.
    _check_usable(engine, target)
    with write_transaction(engine) as connection:
        serving_version(connection)
        if _earlier(connection) != target:
            raise NotPromotable("somebody else changed what serves at the same moment; look, and try again")
        return promote(connection, target, reason, action="rollback")


def list_promotions(engine: Engine, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest changes, newest first; `before` a number, where it is given."""
    changes = select(Promotion.__table__).order_by(col(Promotion.promotion_id).desc()).limit(limit)  # type: ignore[attr-defined]
    if before is not None:
        changes = changes.where(col(Promotion.promotion_id) < before)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(changes).mappings()]


def earlier_version(changes: Iterable[tuple[str, int]]) -> int | None:
    """The version that served before the one that serves, from all changes in order: each its action and its target.

    A promotion goes a step forward and a rollback a step back, so that a second rollback goes back further.
    """
    steps: list[int] = []
    for action, target in changes:
        if action == "promote":
            steps.append(target)
        else:
            steps.pop()
    return steps[-2] if len(steps) > 1 else None


def _earlier(connection: Connection) -> int:
    rows = select(col(Promotion.action), col(Promotion.to_version)).order_by(col(Promotion.promotion_id))
    target = earlier_version((row[0], row[1]) for row in connection.execute(rows))
    if target is None:
        raise NotPromotable("no version served before the one that serves; promote another one by its number")
    return target


def _check_usable(engine: Engine, number: int) -> None:
    run = select(col(TrainingRun.status)).join(ModelVersion, col(ModelVersion.run_id) == col(TrainingRun.run_id))
    with engine.connect() as connection:
        status = connection.scalar(run.where(col(ModelVersion.model_version) == number))
    if status not in {None, "finished"}:
        raise NotPromotable(f"version {number} cannot serve: its training is {status}, not finished")
    try:
        load_version(engine, version(engine, number))
    except DamagedModel as error:
        raise NotPromotable(f"version {number} cannot serve: {error.message}") from error
