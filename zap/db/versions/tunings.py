"""The searches for hyper-parameters (tunings). Trainings use the newest one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, insert, select
from sqlmodel import col

from zap.db.audit import note
from zap.db.stored_json import readable, whole
from zap.db.tables import Tuning, utc_now
from zap.errors import NotFound
from zap.sentences import phrase, say

DEFAULTS = phrase("defaults")


class HyperParameters(NamedTuple):
    """The hyper-parameters that differ from the defaults, and their source: `defaults` or `tuning N`."""

    values: dict[str, Any]
    source: str
    # The start of the newest session that the search has seen; None without a search.
    seen_until: datetime | None = None
    # How many sessions the search used; None without a search, or if an older zap did not store it.
    sessions: int | None = None


def add_tuning(
    connection: Connection, hyper_parameters: Mapping[str, Any] | None, evidence: Mapping[str, Any] | None
) -> int:
    """Store the result of a search, which later trainings use. With None they use the defaults again.

    Returns:
        The number of the tuning.
    """
    row = {
        "created_at": utc_now(),
        "hyper_parameters": None if hyper_parameters is None else dict(hyper_parameters),
        "evidence": None if evidence is None else dict(evidence),
    }
    number: int = connection.execute(insert(Tuning).returning(col(Tuning.tuning_id)), row).scalar_one()
    after = {"hyper_parameters": row["hyper_parameters"]}
    note(connection, "training.tune", f"tuning {number}", after=after)
    return number


def tuned_hyper_parameters(engine: Engine) -> HyperParameters:
    """Return the hyper-parameters that the next training uses.

    Raises:
        DamagedRow: what the newest search has found cannot be read.
    """
    columns = (col(Tuning.tuning_id), col(Tuning.hyper_parameters), col(Tuning.evidence))
    newest = select(*columns).order_by(col(Tuning.tuning_id).desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(newest).one_or_none()
    if row is None or row.hyper_parameters is None:
        return HyperParameters({}, DEFAULTS)
    whole(row.hyper_parameters, say("what tuning {tuning_id} has found", tuning_id=row.tuning_id))
    whole(row.evidence, say("the evidence of tuning {tuning_id}", tuning_id=row.tuning_id))
    # If the search found nothing better than the defaults, its hyper-parameters are empty.
    evidence = row.evidence or {}
    seen_until = evidence.get("seen_until")
    return HyperParameters(
        dict(row.hyper_parameters),
        say("tuning {number}", number=row.tuning_id),
        seen_until and datetime.fromisoformat(seen_until),
        evidence.get("sessions"),
    )


def read_tuning(engine: Engine, tuning_id: int) -> dict[str, Any]:
    """Return a search: when it was made, the hyper-parameters that it found, and its evidence.

    Raises:
        NotFound: there is no such search.
    """
    this = select(Tuning.__table__).where(col(Tuning.tuning_id) == tuning_id)  # type: ignore[attr-defined]
    with engine.connect() as connection:
        row = connection.execute(this).mappings().one_or_none()
    if row is None:
        raise NotFound(say("there is no tuning {tuning_id}", tuning_id=tuning_id))
    return readable(row)
