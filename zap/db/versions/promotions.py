"""The promotions: changes of the version in production, with their reasons, and rollbacks."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlmodel import col

from zap.db.audit import note
from zap.db.engine import database_now, write_transaction
from zap.db.tables import ModelVersion, Promotion, TrainingRun
from zap.db.versions.model_registry import load_version, version
from zap.errors import DamagedModel, NotPromotable
from zap.formats.promotion_reason import Reason
from zap.sentences import say

# An arbitrary number, which every zap on a PostgreSQL database must use.
_PROMOTION_LOCK_KEY = 0x7A61_7004
_CHANGED = say("the version in production was changed at the same moment; look at /models, and try again")


class Change(NamedTuple):
    """The result of a promotion. `changed` is False if the version already served."""

    from_version: int | None
    to_version: int
    changed: bool


def promote(connection: Connection, number: int, reason: Reason, action: str = "promote") -> Change:
    """Put a version into production, archive the earlier one, and record the change.

    Raises:
        NotPromotable: the version does not exist any more, or its artefact was pruned.
    """
    before = serving_version(connection)
    if before == number:
        return Change(before, number, changed=False)
    serves = col(ModelVersion.status) == "production"
    connection.execute(update(ModelVersion).where(serves).values(status="archived"))
    this = (col(ModelVersion.model_version) == number) & col(ModelVersion.artefact).is_not(None)
    if connection.execute(update(ModelVersion).where(this).values(status="production")).rowcount != 1:
        raise NotPromotable(
            say("version {number} does not exist any more, or its artefact was pruned a moment ago", number=number)
        )
    row = {"promoted_at": database_now(connection), "action": action, "from_version": before, "to_version": number}
    connection.execute(insert(Promotion), row | reason.model_dump())
    after = {"production": number, **reason.model_dump()}
    note(connection, f"version.{action}", f"version {number}", before={"production": before}, after=after)
    return Change(before, number, changed=True)


def serving_version(connection: Connection) -> int | None:
    """Return the version in production. No other transaction can change it until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_PROMOTION_LOCK_KEY)))
    serves = col(ModelVersion.status) == "production"
    number: int | None = connection.scalar(select(col(ModelVersion.model_version)).where(serves))
    return number


def promote_version(engine: Engine, number: int, reason: Reason, seen: int | None = None) -> Change:
    """Put a version into production, after a check that this code can serve it.

    Args:
        engine: on the database.
        number: the version.
        reason: who makes this change, and why.
        seen: the version in production that whoever decided this has seen; None if it does not matter.

    Raises:
        NotFound: there is no such version.
        NotPromotable: its artefact was pruned or cannot be used, or another version than `seen` serves. The version in
            production is unchanged.
    """
    check_usable(engine, number)
    with write_transaction(engine) as connection:
        _check_seen(connection, seen)
        return promote(connection, number, reason)


def roll_back(engine: Engine, reason: Reason, seen: int | None = None) -> Change:
    """Put the previous version back into production.

    Args:
        engine: on the database.
        reason: who makes this change, and why.
        seen: the version in production that whoever decided this has seen; None if it does not matter.

    Raises:
        NotPromotable: there is no previous version, or it cannot be used, or another version than `seen` serves. The
            version in production is unchanged.
    """
    with engine.connect() as connection:
        target = _target(connection)
    # Before the transaction, because loading takes longer than other writers should wait.
    check_usable(engine, target)
    with write_transaction(engine) as connection:
        _check_seen(connection, seen)
        if _target(connection) != target:
            raise NotPromotable(_CHANGED)
        return promote(connection, target, reason, action="rollback")


def _check_seen(connection: Connection, seen: int | None) -> None:
    serving = serving_version(connection)
    if seen is not None and serving != seen:
        raise NotPromotable(_CHANGED, model_versions=[] if serving is None else [serving])


def list_promotions(
    engine: Engine, limit: int, before: int | None = None, to_version: int | None = None
) -> list[dict[str, Any]]:
    """Return the newest changes, newest first.

    Args:
        engine: on the database.
        limit: the most changes to return.
        before: return changes with a smaller number.
        to_version: return changes that put this version into production.
    """
    changes = select(Promotion.__table__).order_by(col(Promotion.promotion_id).desc()).limit(limit)  # type: ignore[attr-defined]
    if before is not None:
        changes = changes.where(col(Promotion.promotion_id) < before)
    if to_version is not None:
        changes = changes.where(col(Promotion.to_version) == to_version)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(changes).mappings()]


def newest_promotions(engine: Engine, versions: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return for each version the newest change that put it into production; none for a version that never served."""
    newest = select(func.max(col(Promotion.promotion_id))).where(col(Promotion.to_version).in_(versions))
    newest = newest.group_by(col(Promotion.to_version))
    changes = select(Promotion.__table__).where(col(Promotion.promotion_id).in_(newest))  # type: ignore[attr-defined]
    with engine.connect() as connection:
        return {row["to_version"]: dict(row) for row in connection.execute(changes).mappings()}


def earlier_version(changes: Iterable[tuple[str, int]]) -> int | None:
    """Return the version that a rollback puts back into production; None if there is none.

    A promotion goes one step forward and a rollback one step back, so a second rollback goes back further.

    Args:
        changes: the action and the target of all changes, in order.
    """
    steps: list[int] = []
    for action, target in changes:
        if action == "promote":
            steps.append(target)
        else:
            steps.pop()
    return steps[-2] if len(steps) > 1 else None


def check_usable(engine: Engine, number: int) -> None:
    """Check that this code can serve a version.

    Raises:
        NotFound: there is no such version.
        NotPromotable: its training has not finished, its artefact was pruned, or it cannot be used.
    """
    run = select(col(TrainingRun.status)).join(ModelVersion, col(ModelVersion.run_id) == col(TrainingRun.run_id))
    with engine.connect() as connection:
        status = connection.scalar(run.where(col(ModelVersion.model_version) == number))
    if status not in {None, "finished"}:
        raise NotPromotable(
            say("version {number} cannot serve: its training is {status}, not finished", number=number, status=status),
            model_versions=[number],
        )
    try:
        load_version(engine, version(engine, number))
    except DamagedModel as error:
        raise NotPromotable(
            say("version {number} cannot serve: {reason}", number=number, reason=error.message),
            model_versions=[number],
        ) from error


def rollback_target(engine: Engine) -> int | None:
    """Return the version that a rollback puts back into production; None if there is none."""
    with engine.connect() as connection:
        return _earlier(connection)


def _target(connection: Connection) -> int:
    target = _earlier(connection)
    if target is None:
        raise NotPromotable(say("no version served before the present one; promote another version by its number"))
    return target


def _earlier(connection: Connection) -> int | None:
    rows = select(col(Promotion.action), col(Promotion.to_version)).order_by(col(Promotion.promotion_id))
    return earlier_version((row[0], row[1]) for row in connection.execute(rows))
