"""The training runs, each from its start to its report or its error, at most one at a time.

The row of a running run keeps all other runs out, on any machine, as long as its heartbeat goes on. Every transaction
of a run checks that the run is running, so a run that was cancelled, or was considered dead, can change nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from zap.actor import ZAP, Actor
from zap.db.audit import actor_of, note
from zap.db.engine import database_now, write_transaction
from zap.db.runs.dead_runs import end_lapsed_runs
from zap.db.runs.run_end import CANCELLED, RUNNING, end_of, log_end_of_other, mark_ended, remove_rows
from zap.db.shapes import COUNT, REPORT_PARTS, TEXT
from zap.db.stored_json import Shape, is_object, part, readable
from zap.db.tables import TrainingEvent, TrainingRun, utc_now
from zap.errors import NotFound, RunEnded, TrainingCancelled, TrainingRunning, ZapError
from zap.sentences import say

# The main results in the report of a run.
_REPORT = col(TrainingRun.report)
_RESULTS = (
    *(part(_REPORT, name, COUNT) for name in ("model_version", "tuning")),
    *(part(_REPORT, name, TEXT) for name in ("verdict", "detail")),
)
_HAS_REPORT = is_object(_REPORT).label("has_report")
# How long a run's transaction may be idle on PostgreSQL before the server ends it.
_IDLE_SECONDS = 5


def claim_run(engine: Engine, kind: str, options: Mapping[str, Any]) -> int:
    """Add a new run with status running, and return its number. Its process must start soon (see `dead_runs.py`).

    Args:
        engine: on the database.
        kind: `train` or `tune`.
        options: the options of the request or the command.

    Raises:
        TrainingRunning: another run is running.
    """
    end_lapsed_runs(engine)
    with write_transaction(engine) as connection:
        running = connection.scalar(select(col(TrainingRun.run_id)).where(RUNNING))
        if running is not None:
            raise _refusal(running)
        now = database_now(connection)
        row = {"kind": kind, "status": "running", "started_at": now, "options": dict(options)}
        try:
            claimed: int = connection.execute(insert(TrainingRun).returning(col(TrainingRun.run_id)), row).scalar_one()
        except IntegrityError:
            # Two processes claimed a run at the same time: the unique index accepts only one of them.
            raise _refusal(running_run(engine)) from None
        note(connection, "training.start", f"run {claimed}", after={"kind": kind, "options": dict(options)})
    return claimed


def starter_of(engine: Engine, run_id: int) -> Actor:
    """Return who started a run, as the audit has it; zap itself if the audit does not have it."""
    with engine.connect() as connection:
        return actor_of(connection, "training.start", f"run {run_id}") or ZAP


def beat(connection: Connection, run_id: int) -> None:
    """Write the heartbeat of a run. Every transaction of the run calls this, so that it writes nothing after its end.

    Raises:
        TrainingCancelled: the run was cancelled.
        TrainingFailed: the run was considered dead.
    """
    if connection.dialect.name == "postgresql":
        # The row is locked until the transaction ends. If the machine of the run dies, TCP would wait for hours.
        timeout = ("idle_in_transaction_session_timeout", f"{_IDLE_SECONDS}s", True)
        connection.execute(select(func.set_config(*timeout)))
    beating = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & RUNNING)
    if connection.execute(beating.values(heartbeat_at=database_now(connection))).rowcount != 1:
        raise end_of(connection, run_id)


def finish_run(connection: Connection, run_id: int, report: Mapping[str, Any]) -> None:
    """Store the report of a run, and end it. Call this in the transaction that makes the report true.

    Raises:
        TrainingCancelled, TrainingFailed: the run has already ended.
    """
    finished = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & RUNNING)
    values = {"status": "finished", "finished_at": utc_now(), "report": dict(report)}
    if connection.execute(finished.values(values)).rowcount != 1:
        raise end_of(connection, run_id)
    results = {name: report[name] for name in ("model_version", "verdict", "tuning") if report.get(name) is not None}
    after = {"status": "finished", **results}
    note(connection, "training.finish", f"run {run_id}", before={"status": "running"}, after=after)


def fail_run(engine: Engine, run_id: int, error: ZapError) -> bool:
    """End a running run with an error, and remove the rows that it wrote. A run that has ended is not changed.

    The status of the run is then `cancelled` after TrainingCancelled, and `failed` after every other error.

    Returns:
        Whether the run was running.
    """
    ended = mark_ended(engine, run_id, "cancelled" if isinstance(error, TrainingCancelled) else "failed", error)
    if ended:
        remove_rows(engine, run_id)
    return ended


def cancel_run(engine: Engine, run_id: int) -> None:
    """Cancel a run from another process. Its process notices within a second. Its rows are removed later.

    Raises:
        NotFound: there is no such run.
        RunEnded: the run has already ended.
    """
    cancelled = TrainingCancelled(CANCELLED)
    if not mark_ended(engine, run_id, "cancelled", cancelled):
        status = read_run(engine, run_id)["status"]
        raise RunEnded(
            say(
                "training run {run_id} has already ended: its status is {status}",
                run_id=run_id,
                status=status,
            ),
            run_id=run_id,
        )
    log_end_of_other(run_id, "cancelled", cancelled)


def running_run(engine: Engine) -> int | None:
    """Return the number of the run that is running; None if there is none."""
    with engine.connect() as connection:
        running: int | None = connection.scalar(select(col(TrainingRun.run_id)).where(RUNNING))
    return running


def read_run(engine: Engine, run_id: int) -> dict[str, Any]:
    """Return the columns of a run, with its newest event as `progress`, and what cannot be read as `unreadable`.

    Raises:
        NotFound: there is no such run.
    """
    with engine.connect() as connection:
        row = connection.execute(select(TrainingRun.__table__).where(col(TrainingRun.run_id) == run_id)).mappings()  # type: ignore[attr-defined]
        if (run := row.one_or_none()) is None:
            raise NotFound(say("there is no training run {run_id}", run_id=run_id))
        newest = (
            select(col(TrainingEvent.data))
            .where(col(TrainingEvent.run_id) == run_id)
            .order_by(col(TrainingEvent.event_id).desc())
            .limit(1)
        )
        return readable({**run, "progress": connection.scalar(newest)})


def list_runs(
    engine: Engine, limit: int, before: int | None = None, *, with_results: bool = False
) -> list[dict[str, Any]]:
    """Return the newest runs without their reports, newest first.

    Args:
        engine: on the database.
        limit: the most runs to return.
        before: return runs with a smaller number.
        with_results: add the main results of each run from its report: `model_version` and `verdict` of a training,
            `tuning` of a search, `detail` of an error. They are None where the report has no such value.

    Returns:
        The columns of each run, and the names of what cannot be read as `unreadable`.
    """
    columns: list[Any] = [column for column in TrainingRun.__table__.columns if column.name != "report"]  # type: ignore[attr-defined]
    if with_results:
        columns += [*_RESULTS, _HAS_REPORT]
    runs = select(*columns).order_by(col(TrainingRun.run_id).desc()).limit(limit)
    if before is not None:
        runs = runs.where(col(TrainingRun.run_id) < before)
    with engine.connect() as connection:
        return [_with_report(readable(row)) for row in connection.execute(runs).mappings()]


def newest_report(engine: Engine, parts: Sequence[str]) -> dict[str, Any] | None:
    """Return some parts of the report of the newest training that has finished; None if none has.

    Args:
        engine: on the database.
        parts: the names of the parts. A part that an older zap did not report is None. `unreadable` has the names of
            the parts that cannot be read.
    """
    columns = (part(_REPORT, name, Shape(REPORT_PARTS[name])) for name in parts)
    finished = (col(TrainingRun.kind) == "train") & (col(TrainingRun.status) == "finished")
    newest = select(*columns, _HAS_REPORT).where(finished).order_by(col(TrainingRun.run_id).desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(newest).mappings().one_or_none()
    return None if row is None else _with_report(readable(row))


def _with_report(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the column _HAS_REPORT, but with a report that cannot be read among `unreadable`."""
    if row.pop("has_report", None) is False:
        row["unreadable"].append("report")
    return row


def _refusal(run_id: int | None) -> TrainingRunning:
    if run_id is None:
        return TrainingRunning(say("another training was running a moment ago; try again"))
    return TrainingRunning(
        say(
            "training run {run_id} has not ended; wait for it, or cancel it with DELETE /training-runs/{run_id}",
            run_id=run_id,
        ),
        run_id=run_id,
        training_run=f"/training-runs/{run_id}",
    )
