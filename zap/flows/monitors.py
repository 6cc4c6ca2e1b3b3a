"""The monitors of the version in production: drift of the requests, and harm. They look at what the follower has read.

What a monitor remembers is stored together with how far it has read, in one transaction. A process that is killed
repeats the portion that it had not stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from zap.db.monitoring.alarms import standing_alarms
from zap.db.monitoring.monitor_states import KINDS, Remembered, has_references, read_monitor, store_monitor
from zap.db.monitoring.outcome_arrivals import arrived_delays
from zap.db.monitoring_tables import Outcome
from zap.db.tables import Prediction, Promotion
from zap.db.versions.model_registry import load_version, production_version
from zap.flows.drift_monitor import DriftMonitor, scored_rows
from zap.flows.monitor_changes import Between, Check, monitor_changes, subject_of
from zap.flows.reference_process import ReferenceProcess
from zap.ml.baselines import baseline_probabilities
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import FittedModel, computed_columns
from zap.monitoring.driver_means import brier
from zap.monitoring.harm import HarmState, HarmWatch
from zap.monitoring.harm_days import Sums, add_scores, from_plain, kept_days, to_plain, windows_until
from zap.monitoring.outcome_arrivals import LONGEST, usual_delay
from zap.settings import Settings

# How many outcomes are read at once.
_PORTION = 5000


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
        self._drift = DriftMonitor(engine, settings)
        # The version and the day until which harm was looked at last. What harm remembers is large, and is not read
        # again before the next day has matured.
        self._harm_until: tuple[int, int] | None = None

    def look(self, check: Check, now: datetime, between: Between = lambda: None) -> None:
        """Count the answers and the days since the last look, and raise and resolve alarms.

        Args:
            check: called in each transaction.
            now: the moment, in UTC.
            between: called between two portions of answers.

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
        self._drift.look(check, number, self._serving.model, between)
        self._look_at_harm(check, self._serving, now, between)

    def close(self) -> None:
        """End what was started."""
        self._references.close()

    def _has_references(self, number: int) -> bool:
        """Return whether the version has its references. Another process computes them for an older version."""
        with self._engine.connect() as connection:
            if has_references(connection, number):
                return True
        self._references.see_to(number)
        return False

    def _resolve_others(self, check: Check, number: int) -> None:
        """Resolve alarms about versions that no longer serve."""
        standing = standing_alarms(self._engine)
        others = [(kind, subject) for kind, subject in standing if kind in KINDS and subject != subject_of(number)]
        if others:
            with monitor_changes(self._engine, self._settings, check) as changes:
                for other in others:
                    changes.resolve_alarm(*other)

    def _look_at_harm(self, check: Check, serving: _Serving, now: datetime, between: Between) -> None:
        """Score the days since the last look whose outcomes can be expected to be known.

        The outcomes of a day begin until the horizon has passed after its end, and are known after the usual delay of
        reports. Before any outcome has arrived, nobody knows this delay, so no day is scored. Which outcomes are late
        does not depend on whether the answers were right, except through the drivers, so the late ones may be left out.
        """
        with self._engine.connect() as connection:
            delay = usual_delay(arrived_delays(connection, now - LONGEST))
        if delay is None:
            return
        until = to_seconds(self._settings.wall_time(now) - self._settings.horizon - delay) // DAY
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
            with monitor_changes(self._engine, self._settings, check) as changes:
                store_monitor(changes.connection, serving.number, "harm", remembered)
                if (harm := state.raised) is None:
                    changes.resolve_alarm("harm", subject_of(serving.number))
                else:
                    # Also on later days: the alarm was resolved if another version has served meanwhile.
                    changes.raise_alarm("harm", serving.number, harm.in_words(), asdict(harm))
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
        prediction_id, at = col(Outcome.prediction_id), col(Outcome.asked_at)
        asked = (
            select(
                prediction_id,
                at,
                col(Outcome.user_id),
                col(Outcome.actual_class),
                col(Prediction.probabilities),
                col(Prediction.features),
            )
            .join(Prediction, col(Prediction.prediction_id) == prediction_id)
            .where(
                col(Outcome.model_version) == number,
                at < begin + timedelta(days=1),
                col(Outcome.kind) == "live",
                col(Outcome.status) == "matched",
                col(Outcome.user_id).is_not(None),
                col(Prediction.features).is_not(None),
            )
            # In the order of the index, so that each portion reads only its own rows.
            .order_by(at, prediction_id)
            .limit(_PORTION)
        )
        after = begin, 0
        while True:
            with self._engine.connect() as connection:
                later = (at >= after[0]) & ((at > after[0]) | (prediction_id > after[1]))
                rows = connection.execute(asked.where(later)).all()
            if rows:
                yield rows
                after = rows[-1].asked_at, rows[-1].prediction_id
            if len(rows) < _PORTION:
                return


def _computed(model: FittedModel, rows: Sequence[Any]) -> np.ndarray:
    """Return the scored rows with all columns that this code computes; NaN in columns that the version lacks."""
    columns = computed_columns(model.classes)
    matrix = np.full((len(rows), len(columns)), np.nan)
    matrix[:, [columns.index(name) for name in model.columns]] = scored_rows(model, rows)
    return matrix


def _of_baseline(matrix: np.ndarray, reference: Mapping[str, Any]) -> np.ndarray:
    """Return the probabilities of the best baseline of the test, of shape (n, types)."""
    past, exponents = matrix[:, len(MATRIX_COLUMNS) :], np.array(reference["exponents"])
    return baseline_probabilities(past, reference["mix"], exponents)[reference["baseline"]]
