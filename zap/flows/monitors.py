"""The monitors of the version in production: drift of the requests, and harm. They look at what the follower has read.

What a monitor remembers is stored together with how far it has read, in one transaction. A process that is killed
repeats the portion that it had not stored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import AlarmChange, raise_alarm, resolve_alarm, standing_alarms
from zap.db.monitoring.monitor_states import (
    KINDS,
    Kind,
    Remembered,
    has_references,
    read_monitor,
    store_monitor,
)
from zap.db.monitoring.trial_predictions import followed_until
from zap.db.monitoring_tables import Outcome
from zap.db.tables import InferenceInput, Prediction, Promotion
from zap.db.versions.model_registry import load_version, production_version
from zap.flows.reference_process import ReferenceProcess
from zap.ml.baselines import baseline_probabilities
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import FittedModel, computed_columns
from zap.monitoring.drift import DriftDetector
from zap.monitoring.drift_notice import Notice
from zap.monitoring.drift_state import DriftState
from zap.monitoring.driver_means import brier
from zap.monitoring.driver_sample import random_order
from zap.monitoring.harm import HarmState, HarmWatch
from zap.monitoring.harm_days import Sums, add_scores, from_plain, kept_days, to_plain, windows_until
from zap.monitoring.reference import Reference
from zap.monitoring.watched import answer_values, by_row, request_values, week_of
from zap.settings import Settings

log = structlog.get_logger(__name__)

# How many answers one transaction counts.
_PORTION = 5000
# Called in each transaction that writes; raises an error if another process follows now.
Check = Callable[[Connection], object]
# Called between two portions of work, so that others have their turns; raises an error to end the work.
Between = Callable[[], object]


class _Serving(NamedTuple):
    """The version in production: its number and its model."""

    number: int
    model: FittedModel


class Monitors:
    """Look after the version in production. One process calls `look`, again and again.

    Args:
        engine: on the database.
        settings: the time zone, the horizon of outcomes, and where alarms are posted.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._serving: _Serving | None = None
        self._references = ReferenceProcess(settings)
        # The version and the day until which harm was looked at last. What harm remembers is large, and is not read
        # again before the next day has matured.
        self._harm_until: tuple[int, int] | None = None

    def look(self, check: Check, now: datetime, between: Between = lambda: None) -> None:
        """Count the answers and the days since the last look, and raise and resolve alarms.

        Args:
            check: called in each transaction.
            now: the moment, in UTC.
            between: called before each portion of answers.

        Raises:
            ZapError: another process follows now.
            SQLAlchemyError: the database does not answer.
        """
        version = production_version(self._engine)
        if version is None:
            return
        number = version.model_version
        self._resolve_others(check, number)
        if not self._has_references(number):
            return
        if self._serving is None or self._serving.number != number:
            self._serving = _Serving(number, load_version(self._engine, version))
        self._look_at_drift(check, self._serving, between)
        self._look_at_harm(check, self._serving, self._settings.wall_time(now), between)

    def close(self) -> None:
        """End what was started."""
        self._references.close()

    def _has_references(self, number: int) -> bool:
        """Return whether the version has its references. Another process computes those of an older version."""
        with self._engine.connect() as connection:
            if has_references(connection, number):
                return True
        self._references.see_to(number)
        return False

    def _resolve_others(self, check: Check, number: int) -> None:
        """Resolve alarms about versions that no longer serve."""
        standing = standing_alarms(self._engine)
        others = [(kind, subject) for kind, subject in standing if kind in KINDS and subject != _subject(number)]
        if others:
            with self._writing(check) as (connection, changes):
                changes += [resolve_alarm(connection, *other, posts=self._posts) for other in others]

    def _look_at_drift(self, check: Check, serving: _Serving, between: Between) -> None:
        with self._engine.connect() as connection:
            known = read_monitor(connection, serving.number, "drift")
            read_until = followed_until(connection)
        if known is None or not known.reference["features"]:
            return
        reference = Reference.from_plain(known.reference["features"])
        state = None if known.state is None else DriftState.from_plain(known.state)
        after = known.prediction_id or 0
        while rows := self._answers(serving.number, after, read_until):
            weeks = [week_of(to_seconds(self._settings.wall_time(row.request_timestamp))) for row in rows]
            detector = DriftDetector(reference, state or DriftState.beginning(weeks[0]))
            notices = _observed(detector, serving.model, rows, weeks)
            state, after = detector.state, rows[-1].prediction_id
            remembered = Remembered(known.reference, state.to_plain(), after)
            with self._writing(check) as (connection, changes):
                store_monitor(connection, serving.number, "drift", remembered)
                for notice in notices:
                    changes.append(self._raise(connection, "drift", serving, notice.in_words(), _evidence(notice)))
                if not state.raised:
                    changes.append(self._resolve(connection, "drift", serving))
            if len(rows) < _PORTION:
                return
            between()

    def _answers(self, number: int, after: int, until: int) -> Sequence[Any]:
        """Return the next live answers to drivers."""
        asked = (
            select(
                col(Outcome.prediction_id),
                col(Outcome.user_id),
                col(Prediction.predicted_class),
                col(Prediction.features),
                col(InferenceInput.request_timestamp),
            )
            .join(Prediction, col(Prediction.prediction_id) == col(Outcome.prediction_id))
            .join(InferenceInput, col(InferenceInput.input_id) == col(Prediction.input_id))
            .where(
                col(Outcome.prediction_id) > after,
                col(Outcome.prediction_id) <= until,
                col(Outcome.model_version) == number,
                col(Outcome.kind) == "live",
                col(Outcome.user_id).is_not(None),
                col(Prediction.features).is_not(None),
            )
            .order_by(col(Outcome.prediction_id))
            .limit(_PORTION)
        )
        with self._engine.connect() as connection:
            return connection.execute(asked).all()

    def _look_at_harm(self, check: Check, serving: _Serving, now: datetime, between: Between) -> None:
        """Add the days whose outcomes have all matured since the last look."""
        until = to_seconds(now - self._settings.horizon) // DAY
        if self._harm_until == (serving.number, until):
            return
        with self._engine.connect() as connection:
            known = read_monitor(connection, serving.number, "harm")
            if known is None:
                return
            state, days = self._remembered(connection, serving.number, known)
        limits = {int(window): limit for window, limit in known.reference["limits"].items()}
        for day in range(state.last_day + 1, until):
            days[day] = self._scored(serving, known.reference, day, between)
            days = kept_days(day, days)
            HarmWatch(limits, state).add_day(day, windows_until(day, days))
            remembered = Remembered(known.reference, {"watch": state.to_plain(), "days": to_plain(days)})
            with self._writing(check) as (connection, changes):
                store_monitor(connection, serving.number, "harm", remembered)
                if (harm := state.raised) is None:
                    changes.append(self._resolve(connection, "harm", serving))
                else:
                    # Also on later days: the alarm was resolved if another version has served meanwhile.
                    changes.append(self._raise(connection, "harm", serving, harm.in_words(), asdict(harm)))
        self._harm_until = serving.number, until

    def _remembered(self, connection: Connection, number: int, known: Remembered) -> tuple[HarmState, dict[int, Sums]]:
        """Return the state of harm and the scores of the latest days."""
        if known.state is not None:
            return HarmState.from_plain(known.state["watch"]), from_plain(known.state["days"])
        promoted = connection.scalar(
            select(func.max(col(Promotion.promoted_at))).where(col(Promotion.to_version) == number)
        )
        # The day of the promotion is not whole. Versions that were promoted before promotions were stored begin today.
        since = self._settings.wall_time(promoted) if promoted else self._settings.wall_now()
        return HarmState.beginning(to_seconds(since) // DAY + 1), {}

    def _scored(self, serving: _Serving, reference: dict[str, Any], day: int, between: Between) -> Sums:
        """Return the scores of a day by driver group."""
        sums: Sums = {}
        between()
        for rows in self._matched(serving.number, day):
            types = list(serving.model.classes)
            used = np.array([types.index(row.actual_class) if row.actual_class in types else -1 for row in rows])
            said = np.array([[row.probabilities[name] for name in types] for row in rows])
            of_baseline = _of_baseline(_computed(serving.model, rows), reference)
            add_scores(sums, [row.user_id for row in rows], brier(said, used), brier(of_baseline, used))
            between()
        return sums

    def _matched(self, number: int, day: int) -> Iterator[Sequence[Any]]:
        """Yield the matched live outcomes of the moments of one day, in portions."""
        begin = datetime(1970, 1, 1) + timedelta(days=day)  # noqa: DTZ001 - wall time
        after = 0
        asked = (
            select(
                col(Outcome.prediction_id),
                col(Outcome.user_id),
                col(Outcome.actual_class),
                col(Prediction.probabilities),
                col(Prediction.features),
            )
            .join(Prediction, col(Prediction.prediction_id) == col(Outcome.prediction_id))
            .where(
                col(Outcome.model_version) == number,
                col(Outcome.asked_at) >= begin,
                col(Outcome.asked_at) < begin + timedelta(days=1),
                col(Outcome.kind) == "live",
                col(Outcome.status) == "matched",
                col(Outcome.user_id).is_not(None),
                col(Prediction.features).is_not(None),
            )
            .order_by(col(Outcome.prediction_id))
            .limit(_PORTION)
        )
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(asked.where(col(Outcome.prediction_id) > after)).all()
            if rows:
                yield rows
                after = rows[-1].prediction_id
            if len(rows) < _PORTION:
                return

    @contextmanager
    def _writing(self, check: Check) -> Iterator[tuple[Connection, list[AlarmChange | None]]]:
        """Yield a transaction and a list of changes of alarms, which are logged after the commit."""
        changes: list[AlarmChange | None] = []
        with write_transaction(self._engine) as connection:
            check(connection)
            yield connection, changes
        for change in changes:
            if change is not None:
                change.log()

    @property
    def _posts(self) -> bool:
        return self._settings.alarm_url is not None

    def _raise(
        self, connection: Connection, kind: Kind, serving: _Serving, message: str, evidence: dict[str, Any]
    ) -> AlarmChange | None:
        subject = _subject(serving.number)
        return raise_alarm(connection, kind, subject, message, evidence, posts=self._posts)

    def _resolve(self, connection: Connection, kind: Kind, serving: _Serving) -> AlarmChange | None:
        return resolve_alarm(connection, kind, _subject(serving.number), posts=self._posts)


def _observed(detector: DriftDetector, model: FittedModel, rows: Sequence[Any], weeks: Sequence[int]) -> list[Notice]:
    """Count answers, and return the notices of the weeks that ended before them."""
    matrix = _matrix(model, rows)
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


def _matrix(model: FittedModel, rows: Sequence[Any]) -> np.ndarray:
    """Return the scored rows: float64 of shape (n, columns of the model)."""
    scored = b"".join(row.features for row in rows)
    return np.frombuffer(scored, dtype="<f8").astype(np.float64).reshape(len(rows), len(model.columns))


def _computed(model: FittedModel, rows: Sequence[Any]) -> np.ndarray:
    """Return the scored rows with all columns that this code computes; NaN in columns that the version lacks."""
    columns = computed_columns(model.classes)
    matrix = np.full((len(rows), len(columns)), np.nan)
    matrix[:, [columns.index(name) for name in model.columns]] = _matrix(model, rows)
    return matrix


def _of_baseline(matrix: np.ndarray, reference: Mapping[str, Any]) -> np.ndarray:
    """Return the probabilities of the best baseline of the test, of shape (n, types)."""
    past, exponents = matrix[:, len(MATRIX_COLUMNS) :], np.array(reference["exponents"])
    return baseline_probabilities(past, reference["mix"], exponents)[reference["baseline"]]


def _subject(number: int) -> str:
    return f"version {number}"


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
