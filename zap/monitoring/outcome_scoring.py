"""OutcomeScorer: changes of outcomes of one version, scored as an evaluation scores sessions, and added to its sums.

The model's probabilities are the logged answer. The baselines come from the stored row, which has the driver's shares.
The same answer and type always give equal whole numbers, whatever answers are scored beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from zap.ml.baselines import SHARE_COLUMNS, baselines_of_shares
from zap.ml.calibration import bin_places
from zap.ml.cells import Spellings, plain_text
from zap.ml.fitted import FittedModel
from zap.ml.scores import log_losses
from zap.ml.slices import slice_places
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState
from zap.monitoring.quality_sums import FIRST_PLACES, GROUPS, PARTS, UNIT, Layout, QualitySums

# The columns of a row that decide the slices.
_SLICED_BY = {"by_earlier_sessions": "sessions", "by_types_used": "types_used"}


class DayKey(NamedTuple):
    """The day and the kind of outcomes."""

    day: date
    kind: str


def key_of(state: OutcomeState) -> DayKey:
    """Return the day of an outcome: the day of the moment that was asked about."""
    return DayKey(state.asked_at.date(), state.kind)


@dataclass
class Day:
    """What is counted for a version, a day and a kind of outcomes.

    Attributes:
        answers: the answers by the status of their outcome; `with_driver`: the answers to requests with a driver;
            `unscored`: the matched answers that cannot be scored, because the log has no row or the session has no
                type.
        sums: the sums of scores; None if the version could not be loaded when the day was begun.
    """

    answers: dict[str, int] = field(default_factory=dict)
    sums: QualitySums | None = None

    def count(self, name: str, more: int) -> None:
        """Add to a number of answers, or take away from it."""
        number = self.answers.pop(name, 0) + more
        if number:
            self.answers[name] = number

    def is_nothing(self) -> bool:
        """Return whether nothing is counted any more."""
        return not self.answers and (self.sums is None or self.sums.is_nothing())


class _Entry(NamedTuple):
    """An outcome that is added (sign 1) or taken away (sign -1); `row` is the place of its change."""

    row: int
    sign: int
    key: DayKey
    used: str | None = None


class OutcomeScorer:
    """Scores the outcomes of one version.

    Args:
        model: the version.
        exponents: the exponents of the pooled shares; None for a version that was trained before they were kept.
    """

    def __init__(self, model: FittedModel, exponents: Sequence[float] | None) -> None:
        places = {name: place for place, name in enumerate(model.columns)}
        self._row_bytes = 8 * len(model.columns)
        self._shares = {
            column: [places[f"{column}[{name}]"] for name in model.classes]
            for column in SHARE_COLUMNS
            if all(f"{column}[{name}]" in places for name in model.classes)
        }
        self._sliced_by = {group: places[name] for group, name in _SLICED_BY.items() if name in places}
        self._sessions = places["sessions"]
        # The mix of the training sessions, as an evaluation has it.
        counts = np.array(list(model.population.counts.values())).sum(axis=0)
        self._mix, self._exponents = (counts / counts.sum()).tolist(), exponents
        baselines = self._baselines(np.empty((0, len(model.columns))))
        self.layout = Layout(tuple(model.classes), ("model", *baselines))
        self._codes = {name: code for code, name in enumerate(model.classes)}
        self._spellings = Spellings(model.classes)

    def add(self, changes: Sequence[OutcomeChange], days: Mapping[DayKey, Day]) -> None:
        """Take the outcomes before the changes out of their days, and add the outcomes after them.

        Args:
            changes: changes of answers of this version.
            days: the days of these outcomes, with sums of this layout or without sums; they are changed in place.
        """
        answered, used = _counted(changes, days)
        # A day that was begun while the version could not be loaded has no sums from which anything could be taken.
        for entry in used:
            if days[entry.key].sums is None:
                days[entry.key].count("unscored", entry.sign)
        used = [entry for entry in used if days[entry.key].sums is not None]
        codes, probabilities = self._answers(changes)
        known = [entry for entry in answered if codes[entry.row] >= 0 and days[entry.key].sums is not None]
        for key, rows, signs in _by_day(known):
            confidence = probabilities[rows, codes[rows]]
            bins = _sums_of(days[key]).array("bins")
            _add(bins, (bin_places(confidence), 0), signs)
            _add(bins, (bin_places(confidence), 1), signs * _units(confidence))
        scored = _Scored(self, changes, used, codes, probabilities)
        for entry in scored.refused:
            days[entry.key].count("unscored", entry.sign)
        for key, places, signs in scored.by_day():
            scored.add_to(_sums_of(days[key]), places, signs)

    def _answers(self, changes: Sequence[OutcomeChange]) -> tuple[np.ndarray, np.ndarray]:
        """Return the code of each answered type and the probabilities; -1 where the log lacks them."""
        classes, nothing = self.layout.classes, [0.0] * len(self.layout.classes)
        codes, rows = [], []
        for change in changes:
            said, code = change.probabilities, self._codes.get(change.predicted_class, -1)
            complete = code >= 0 and said is not None and all(name in said for name in classes)
            codes.append(code if complete else -1)
            rows.append([said[name] for name in classes] if complete and said is not None else nothing)
        return np.array(codes, np.int64), np.array(rows, np.float64).reshape(-1, len(classes))

    def _baselines(self, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """Return the probabilities of the baselines for rows of the version's columns."""
        shares = {column: np.ascontiguousarray(matrix[:, places]) for column, places in self._shares.items()}
        return baselines_of_shares(shares, matrix[:, self._sessions] == 0, self._mix, self._exponents)

    def has_row(self, change: OutcomeChange) -> bool:
        """Return whether the log has the row of an answer, with as many numbers as the version has columns."""
        return change.features is not None and len(change.features) == self._row_bytes

    def said(self, features: Sequence[bytes], probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the model and the baselines said, of shape (n, predictors, types), and the places in PARTS.

        Args:
            features: n stored rows.
            probabilities: the model's probabilities, of shape (n, types).
        """
        matrix = np.frombuffer(b"".join(features), "<f8").astype(np.float64).reshape(-1, self._row_bytes // 8)
        said = np.stack([probabilities, *self._baselines(matrix).values()], axis=1)
        places = [np.zeros(len(matrix), np.int64)]
        places += [FIRST_PLACES[group] + slice_places(group, matrix[:, at]) for group, at in self._sliced_by.items()]
        return said, np.stack(places, axis=1)

    def code_of(self, used: str) -> int:
        """Return the code of a used type; -1 if the version does not know it."""
        code = self._codes.get(used)
        if code is None:
            meant = self._spellings.meant(used)
            code = -1 if meant is None else self._codes[meant]
        return code


class _Scored:
    """The outcomes that can be scored, as arrays with one row for each of them.

    Attributes:
        refused: the outcomes that cannot be scored.
    """

    def __init__(
        self,
        scorer: OutcomeScorer,
        changes: Sequence[OutcomeChange],
        used: Sequence[_Entry],
        codes: np.ndarray,
        probabilities: np.ndarray,
    ) -> None:
        rows = sorted({entry.row for entry in used if codes[entry.row] >= 0 and scorer.has_row(changes[entry.row])})
        said, parts = scorer.said([changes[row].features or b"" for row in rows], probabilities[rows])
        places = {row: place for place, row in enumerate(rows) if np.isfinite(said[place]).all()}
        self._entries = [entry for entry in used if entry.used is not None and entry.row in places]
        self.refused = [entry for entry in used if entry.used is None or entry.row not in places]
        at = [places[entry.row] for entry in self._entries]
        self._labels = np.array([scorer.code_of(entry.used or "") for entry in self._entries], np.int64)
        self._parts, said = parts[at], said[at]
        self._predicted = said.argmax(axis=2)
        # The answer that the driver got, even if two types were equally probable.
        self._predicted[:, 0] = codes[[entry.row for entry in self._entries]]
        chosen = np.take_along_axis(said, np.maximum(self._labels, 0)[:, None, None], axis=2)[:, :, 0]
        self._losses = _units(log_losses(np.ascontiguousarray(chosen)))
        self._confidence = np.take_along_axis(said[:, 0], self._predicted[:, :1], axis=1)[:, 0]
        self._groups = np.array([_group_of(changes[entry.row].user_id) for entry in self._entries], np.int64)

    def by_day(self) -> list[tuple[DayKey, np.ndarray, np.ndarray]]:
        """Return for each day the places of its outcomes, and their signs."""
        return _by_day([_Entry(place, entry.sign, entry.key) for place, entry in enumerate(self._entries)])

    def add_to(self, sums: QualitySums, places: np.ndarray, signs: np.ndarray) -> None:
        """Add outcomes to the sums of their day.

        Args:
            sums: the sums, changed in place.
            places: which outcomes.
            signs: 1 for an outcome that is added, -1 for an outcome that is taken away.
        """
        labels, parts, predicted = self._labels[places], self._parts[places], self._predicted[places]
        groups, confidence = self._groups[places], self._confidence[places]
        of_predictors = np.arange(predicted.shape[1])
        # Of all outcomes: what was predicted, and how sure the model was.
        right = predicted == labels[:, None]
        _add(sums.array("predictions"), (parts[:, :, None], of_predictors, predicted[:, None]), signs[:, None, None])
        bins, which = sums.array("bins"), bin_places(confidence)
        _add(bins, (which, 2), signs)
        _add(bins, (which, 3), signs * _units(confidence))
        _add(bins, (which, 4), signs * right[:, 0])
        k, first = len(sums.layout.classes), 1 + len(of_predictors)
        _add(sums.groups, (groups, 0), signs)
        _add(sums.groups, (groups, first + 2 * k + predicted[:, 0]), signs)
        for place in np.flatnonzero(labels < 0).tolist():
            one = sums.unseen_of(plain_text(self._entries[places[place]].used or ""))
            one[parts[place]] += signs[place]
            one[len(PARTS) + predicted[place, 0]] += signs[place]
        # Of the outcomes with a type that the version knows: hits and log losses.
        seen = labels >= 0
        labels, parts, predicted, groups = labels[seen], parts[seen], predicted[seen], groups[seen]
        signs, right, losses = signs[seen], right[seen], self._losses[places][seen]
        _add(sums.array("support"), (parts, labels[:, None]), signs[:, None])
        _add(
            sums.array("hits"),
            (parts[:, :, None], of_predictors, labels[:, None, None]),
            (signs[:, None] * right)[:, None],
        )
        _add(sums.array("log_loss"), (parts[:, :, None], of_predictors), (signs[:, None] * losses)[:, None])
        _add(sums.array("confusion"), (labels, predicted[:, 0]), signs)
        _add(sums.groups, (groups[:, None], 1 + of_predictors), signs[:, None] * losses)
        _add(sums.groups, (groups, first + labels), signs)
        _add(sums.groups, (groups, first + k + labels), signs * right[:, 0])


def count_only(changes: Sequence[OutcomeChange], days: Mapping[DayKey, Day]) -> None:
    """Count the answers of a version that cannot be loaded: none of its outcomes can be scored."""
    _, used = _counted(changes, days)
    for entry in used:
        days[entry.key].count("unscored", entry.sign)


def _counted(changes: Sequence[OutcomeChange], days: Mapping[DayKey, Day]) -> tuple[list[_Entry], list[_Entry]]:
    """Count the answers of each day by status. Return the answers that are new or gone, and the matched outcomes."""
    answered, used = [], []
    counts: dict[tuple[DayKey, str], int] = {}
    for row, change in enumerate(changes):
        before, after = change.before, change.after
        keys = before and key_of(before), after and key_of(after)
        for sign, state, key in ((-1, before, keys[0]), (1, after, keys[1])):
            if state is None or key is None:
                continue
            counts[key, state.status] = counts.get((key, state.status), 0) + sign
            if keys[0] != keys[1]:
                answered.append(_Entry(row, sign, key))
                if change.user_id is not None:
                    counts[key, "with_driver"] = counts.get((key, "with_driver"), 0) + sign
            if state.status == "matched":
                used.append(_Entry(row, sign, key, state.actual_class))
    for (key, name), more in counts.items():
        days[key].count(name, more)
    return answered, used


def _by_day(entries: Sequence[_Entry]) -> list[tuple[DayKey, np.ndarray, np.ndarray]]:
    """Return for each day the rows of its entries, and their signs."""
    rows: dict[DayKey, list[_Entry]] = {}
    for entry in entries:
        rows.setdefault(entry.key, []).append(entry)
    return [
        (key, np.array([entry.row for entry in some]), np.array([entry.sign for entry in some], np.int64))
        for key, some in rows.items()
    ]


def _sums_of(day: Day) -> QualitySums:
    if day.sums is None:
        raise ValueError("a day without sums has no scored outcomes")
    return day.sums


def _add(array: np.ndarray, places: tuple[Any, ...], signs: np.ndarray) -> None:
    """Add numbers at places of an array in place; a place that is named twice gets both numbers."""
    at, numbers = np.broadcast_arrays(np.ravel_multi_index(np.broadcast_arrays(*places), array.shape), signs)
    # With places in one dimension, NumPy is several times as fast.
    np.add.at(array.reshape(-1), at.ravel(), numbers.ravel())


def _units(values: np.ndarray) -> np.ndarray:
    units: np.ndarray = np.rint(values / UNIT).astype(np.int64)
    return units


def _group_of(user_id: str | None) -> int:
    """Return the group of a driver. Answers without a driver may all be of one driver, so they share a group."""
    return crc32(user_id.encode(errors="backslashreplace")) % GROUPS if user_id is not None else 0
