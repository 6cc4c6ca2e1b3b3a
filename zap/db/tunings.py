"""The searches for hyper-parameters: the newest says what trainings use."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, insert, select
from sqlmodel import col

from zap.db.tables import Tuning, utc_now

DEFAULTS = "defaults"


class HyperParameters(NamedTuple):
    """What a training sets, the rest being the defaults, and where it comes from: `defaults` or `tuning N`."""

    values: dict[str, Any]
    source: str
    # The start of the newest session that the search has seen; None where nothing was searched.
    seen_until: datetime | None = None


def add_tuning(
    connection: Connection, hyper_parameters: Mapping[str, Any] | None, evidence: Mapping[str, Any] | None
) -> int:
    """Store what a search found; later trainings use it. None: from now on the defaults again.

    Returns:
        Its number.
    """
    row = {
        "created_at": utc_now(),
        "hyper_parameters": None if hyper_parameters is None else dict(hyper_parameters),
        "evidence": None if evidence is None else dict(evidence),
    }
    return connection.execute(insert(Tuning).returning(col(Tuning.tuning_id)), row).scalar_one()


def tuned_hyper_parameters(engine: Engine) -> HyperParameters:
    """What the next training uses."""
    columns = (col(Tuning.tuning_id), col(Tuning.hyper_parameters), col(Tuning.evidence))
    newest = select(*columns).order_by(col(Tuning.tuning_id).desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(newest).one_or_none()
    if row is None or row.hyper_parameters is None:
        return HyperParameters({}, DEFAULTS)
    # Where the search found nothing better than the defaults, it sets nothing.
    seen_until = (row.evidence or {}).get("seen_until")
    return HyperParameters(
        dict(row.hyper_parameters), f"tuning {row.tuning_id}", seen_until and datetime.fromisoformat(seen_until)
    )
