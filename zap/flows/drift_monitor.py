"""The monitor of drift: it counts the answers of the version in production, and raises and resolves its alarm.

What the monitor remembers takes megabytes, so it is in memory, and it is stored only at places that follow from the log
alone: after the answer that ends a week, and after each 50,000 answers since the last such place. A process that is
killed loses the answers since then; the next process reads them again and stores equal rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine, func, select
from sqlmodel import col

from zap.db.monitoring.monitor_states import Place, Remembered, read_monitor, read_stored, store_monitor
from zap.db.monitoring.next_outcomes import first_of, next_outcomes
from zap.db.monitoring.trial_predictions import followed_until
from zap.db.tables import InferenceInput, Prediction, Promotion
from zap.flows.monitor_changes import Between, Check, monitor_changes, subject_of
from zap.ml.cells import to_seconds
from zap.ml.fitted import FittedModel
from zap.monitoring.drift import DriftDetector
from zap.monitoring.drift_notice import Notice
from zap.monitoring.drift_state import DriftState
from zap.monitoring.driver_sample import random_order
from zap.monitoring.reference import Reference
from zap.monitoring.watched import answer_values, by_row, request_values, week_of
from zap.settings import Settings

# How many answers are read at once, and after how many answers the state is stored at the latest.
_PORTION = 5000
_STORED_AFTER = 50_000


@dataclass
class _Memory:
    """What is known about the drift of a version.

    Attributes:
        version: the version.
        compared: the stored reference.
        reference: the stored reference, decoded; None if the training had too few drivers.
        state: what the detector remembers; None before the first answer.
        after: the last answer that the state has counted.
        stored: which state is stored.
        counted: the number of answers since then.
    """

    version: int
    compared: dict[str, Any]
    reference: Reference | None
    state: DriftState | None
    after: int
    stored: Place | None
    counted: int = 0


class DriftMonitor:
    """Count the answers of the version in production. One process calls `look`, again and again.

    Args:
        engine: on the database.
        settings: the time zone, and where alarms are posted.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._memory: _Memory | None = None

    def look(self, check: Check, version: int, model: FittedModel, between: Between) -> None:
        """Count the answers since the last look, and raise and resolve the alarm of drift.

        Args:
            check: called in each transaction.
            version: the version in production. It has its reference.
            model: its model.
            between: called between two portions of answers.
        """
        memory, read_until = self._remembered(version)
        if memory is None or memory.reference is None:
            return
        while True:
            most = min(_PORTION, _STORED_AFTER - memory.counted)
            rows, reached, are_all = self._answers(version, memory.after, read_until, most)
            # If storing fails, the next look reads the stored state.
            self._memory = None
            whole = not rows or self._count(check, memory, memory.reference, model, rows)
            if whole:
                memory.after = reached
            self._memory = memory
            if whole and are_all:
                return
            between()

    def _count(
        self, check: Check, memory: _Memory, reference: Reference, model: FittedModel, rows: Sequence[Any]
    ) -> bool:
        """Count answers up to the answer that ends a week. Return whether these are all answers."""
        weeks = [week_of(to_seconds(self._settings.wall_time(row.request_timestamp))) for row in rows]
        if memory.state is None:
            memory.state = DriftState.beginning(weeks[0])
        state = memory.state
        ends = next((place for place, week in enumerate(weeks, 1) if week > state.sample.week), None)
        rows, weeks = rows[:ends], weeks[:ends]
        notices = _observed(DriftDetector(reference, state), model, rows, weeks)
        memory.after, memory.counted = rows[-1].prediction_id, memory.counted + len(rows)
        if ends is not None or memory.counted >= _STORED_AFTER:
            self._store(check, memory, state, notices)
        return ends is None

    def _store(self, check: Check, memory: _Memory, state: DriftState, notices: Sequence[Notice]) -> None:
        remembered = Remembered(memory.compared, state.to_plain(), memory.after)
        with monitor_changes(self._engine, self._settings, check) as changes:
            stored = store_monitor(changes.connection, memory.version, "drift", remembered)
            for notice in notices:
                changes.raise_alarm("drift", memory.version, notice.in_words(), _evidence(notice))
            if not state.raised:
                changes.resolve_alarm("drift", subject_of(memory.version))
        memory.stored, memory.counted = stored, 0

    def _remembered(self, version: int) -> tuple[_Memory | None, int]:
        """Return what is known about a version, and up to which answer all answers are followed."""
        with self._engine.connect() as connection:
            read_until = followed_until(connection)
            stored = read_stored(connection, version, "drift")
            memory = self._memory
            # Another process may have looked meanwhile, or erased a driver.
            if memory is None or (memory.version, memory.stored) != (version, stored):
                known = read_monitor(connection, version, "drift")
                memory = self._memory = None if known is None else _read(version, known, stored)
            promoted_at = connection.scalar(
                select(func.max(col(Promotion.promoted_at))).where(col(Promotion.to_version) == version)
            )
        if memory is not None and memory.state is not None and promoted_at is not None:
            memory.state.serves_since(self._week(promoted_at))
        return memory, read_until

    def _week(self, moment: datetime) -> int:
        return int(week_of(to_seconds(self._settings.wall_time(moment))))

    def _answers(self, number: int, after: int, until: int, most: int) -> tuple[Sequence[Any], int, bool]:
        """Return the next live answers to drivers, the answer up to which these are all, and whether there are no more.

        Args:
            number: the version.
            after: the last answer that is counted; 0 before the first one.
            until: the last answer that is followed.
            most: the most outcomes to read, of any version.
        """
        with self._engine.connect() as connection:
            if not after:
                after = (first_of(connection, number) or 1) - 1
            some = next_outcomes(connection, after, until, most)
            outcomes = some.rows.c
            asked = (
                select(
                    outcomes.prediction_id,
                    outcomes.user_id,
                    col(Prediction.predicted_class),
                    col(Prediction.features),
                    col(InferenceInput.request_timestamp),
                )
                .join(Prediction, col(Prediction.prediction_id) == outcomes.prediction_id)
                .join(InferenceInput, col(InferenceInput.input_id) == col(Prediction.input_id))
                .where(
                    outcomes.model_version == number,
                    outcomes.kind == "live",
                    outcomes.user_id.is_not(None),
                    col(Prediction.features).is_not(None),
                )
                .order_by(outcomes.prediction_id)
            )
            rows = connection.execute(asked).all()
        return rows, after if some.last is None else some.last, some.are_all


def scored_rows(model: FittedModel, rows: Sequence[Any]) -> np.ndarray:
    """Return the scored rows of answers: float64 of shape (n, columns of the model)."""
    scored = b"".join(row.features for row in rows)
    return np.frombuffer(scored, dtype="<f8").astype(np.float64).reshape(len(rows), len(model.columns))


def _read(version: int, known: Remembered, stored: Place | None) -> _Memory:
    features = known.reference["features"]
    reference = Reference.from_plain(features) if features else None
    state = None if known.state is None else DriftState.from_plain(known.state)
    return _Memory(version, known.reference, reference, state, known.prediction_id or 0, stored)


def _observed(detector: DriftDetector, model: FittedModel, rows: Sequence[Any], weeks: Sequence[int]) -> list[Notice]:
    """Count answers, and return the notices of the weeks that ended before them."""
    matrix = scored_rows(model, rows)
    sessions = matrix[:, model.columns.index("sessions")]
    values = by_row(
        {
            **request_values(matrix, model.columns, model.contract["categories"]),
            **answer_values(sessions, [row.predicted_class for row in rows]),
        }
    )
    orders = random_order(np.array([row.prediction_id for row in rows])).tolist()
    found = [
        detector.observe(row.user_id, week, order, one)
        for row, week, order, one in zip(rows, weeks, orders, values, strict=True)
    ]
    return [notice for notice in found if notice is not None]


def _evidence(notice: Notice) -> dict[str, Any]:
    return {
        "week": notice.week,
        "evidence": notice.evidence,
        "features": [
            {
                "feature": shift.feature,
                "effect": shift.effect,
                "training": shift.reference,
                "found": shift.found,
                "drivers": shift.drivers,
            }
            for shift in notice.shifts
        ],
    }
