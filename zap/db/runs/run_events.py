"""The events of training runs: their progress, in order."""

from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlmodel import col

from zap.db.stored_json import Damaged
from zap.db.tables import TrainingEvent, TrainingRun, utc_now

# How many of the newest runs keep their events.
_RUNS_WITH_EVENTS = 50


def add_events(connection: Connection, run_id: int, events: list[dict[str, Any]]) -> None:
    """Store progress of a run."""
    if events:
        now = utc_now()
        connection.execute(
            insert(TrainingEvent), [{"run_id": run_id, "created_at": now, "data": data} for data in events]
        )


def prune_events(connection: Connection) -> None:
    """Remove the events of old runs; the runs and their reports are kept."""
    kept = select(col(TrainingRun.run_id)).order_by(col(TrainingRun.run_id).desc()).limit(_RUNS_WITH_EVENTS)
    connection.execute(delete(TrainingEvent).where(col(TrainingEvent.run_id).not_in(kept)))


def events_after(engine: Engine, run_id: int, event_id: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the events of a run after the event `event_id`, each with its number. Damaged events are left out."""
    later = (col(TrainingEvent.run_id) == run_id) & (col(TrainingEvent.event_id) > event_id)
    events = select(col(TrainingEvent.event_id), col(TrainingEvent.data)).where(later)
    with engine.connect() as connection:
        rows = connection.execute(events.order_by(col(TrainingEvent.event_id))).all()
    return [(number, data) for number, data in rows if not isinstance(data, Damaged)]
