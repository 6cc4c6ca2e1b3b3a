"""The rows of `quality_days`: the follower adds changes of outcomes, and the report of live quality reads the sums."""

from collections import OrderedDict
from collections.abc import Generator, Sequence
from datetime import date, datetime, time
from functools import cached_property
from hashlib import sha256
from typing import Any

import structlog
from sqlalchemy import BindParameter, ColumnElement, Connection, Engine, and_, bindparam, delete, insert, select, update
from sqlmodel import col

from zap.db.monitoring_tables import QualityDay
from zap.db.stored_json import Damaged, as_bytes, whole
from zap.db.tables import ModelVersion
from zap.errors import DamagedModel
from zap.ml.fitted import FittedModel
from zap.monitoring.outcome_change import OutcomeChange
from zap.monitoring.outcome_scoring import Day, DayKey, OutcomeScorer, count_only, key_of
from zap.monitoring.quality_sums import QualitySums

log = structlog.get_logger(__name__)

# A scorer keeps no trees, so it takes little memory; a report reads few days at a time, because a day may have 100 kB.
_MOST_SCORERS = 32
_DAYS_AT_A_TIME = 50
_ROWS = QualityDay.__table__  # type: ignore[attr-defined]


class StoredDay:
    """A row of `quality_days`. Its sums are decoded when they are asked for, because this takes most of the time.

    Args:
        row: the row.

    Attributes:
        model_version, key: which row it is.
        answers: as in `Day`; none if they cannot be read.
        is_damaged: whether the answers cannot be read.
        digest: of the sums: equal sums have equal digests. None without sums.
    """

    def __init__(self, row: Any) -> None:
        self.model_version: int = row.model_version
        self.key = DayKey(row.day.date(), row.kind)
        self.answers: dict[str, int] = dict(row.answers)
        self.is_damaged = isinstance(row.answers, Damaged)
        self._data = None if row.sums is None else as_bytes(row.sums)
        self.digest = None if self._data is None else sha256(self._data).digest()

    @cached_property
    def counted(self) -> Day:
        """Return what is counted for the day.

        Raises:
            DamagedModel: the sums have another form.
        """
        return Day(self.answers, None if self._data is None else QualitySums.from_bytes(self._data))


def apply(connection: Connection, changes: Sequence[OutcomeChange]) -> None:
    """Take the outcomes before the changes out of the sums of their days, and add the outcomes after them.

    The sums are correct only if every change is applied once: apply the changes in the transaction that writes them to
    `outcomes`. Answers without a model version are left out.

    Args:
        connection: a transaction that writes, of the only follower.
        changes: changes of any versions, days and kinds.
    """
    by_version: dict[int, list[OutcomeChange]] = {}
    for change in changes:
        if change.model_version is not None and change.before != change.after:
            by_version.setdefault(change.model_version, []).append(change)
    for version, some in by_version.items():
        scorer = _scorers.of_version(connection, version)
        keys = {key_of(state) for change in some for state in (change.before, change.after) if state is not None}
        stored = _stored(connection, version, keys)
        days = {key: stored.get(key) or Day() for key in keys}
        if scorer is None:
            count_only(some, days)
        else:
            for key in keys - stored.keys():
                days[key].sums = QualitySums.empty(scorer.layout)
            scorer.add(some, days)
        _write(connection, version, days, stored)


def read_days(
    engine: Engine, kind: str, first: date, last: date, model_version: int | None = None
) -> Generator[StoredDay]:
    """Yield the days of one version or of all versions, by version (the newest first) and day.

    Args:
        engine: on the database.
        kind: `live` or `backtest`.
        first: the first day.
        last: the last day.
        model_version: the version; None for all versions.
    """
    wanted = _ROWS.c.kind == kind, _ROWS.c.day.between(_midnight(first), _midnight(last))
    number = _ROWS.c.model_version
    with engine.connect().execution_options(yield_per=_DAYS_AT_A_TIME) as connection:
        # The rows of each version come in the order of the index. To sort all rows, a database would copy all sums.
        versions = select(number).where(*wanted).distinct().order_by(number.desc())
        numbers = connection.scalars(versions).all() if model_version is None else [model_version]
        for one in numbers:
            for row in connection.execute(select(_ROWS).where(number == one, *wanted).order_by(_ROWS.c.day)):
                yield StoredDay(row)


def _stored(connection: Connection, version: int, keys: set[DayKey]) -> dict[DayKey, Day]:
    """Return the stored days of a version. Each day is looked up, because a portion of the log has few days."""
    asked = select(_ROWS).where(_of_day(version))
    found = {}
    for key in keys:
        row = connection.execute(asked, {"of_day": _midnight(key.day), "of_kind": key.kind}).one_or_none()
        if row is not None:
            found[key] = _day_of(row)
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _of_day(version: int) -> ColumnElement[bool]:
    """Return the condition for the row of the parameters `of_day` and `of_kind`."""
    of_day: BindParameter[Any] = bindparam("of_day")
    of_kind: BindParameter[Any] = bindparam("of_kind")
    return and_(_ROWS.c.model_version == version, _ROWS.c.day == of_day, _ROWS.c.kind == of_kind)


def _day_of(row: Any) -> Day:
    answers = whole(row.answers, "the answers of a day")
    return Day(dict(answers), None if row.sums is None else QualitySums.from_bytes(as_bytes(row.sums)))


def _write(connection: Connection, version: int, days: dict[DayKey, Day], stored: dict[DayKey, Day]) -> None:
    """Insert, update or remove the rows of days."""
    new, changed, gone = [], [], []
    for key, day in days.items():
        where = {"of_day": _midnight(key.day), "of_kind": key.kind}
        values = {"answers": day.answers, "sums": day.sums and day.sums.to_bytes()}
        if day.is_nothing():
            gone += [where] if key in stored else []
        elif key in stored:
            changed.append({**where, "new_answers": values["answers"], "new_sums": values["sums"]})
        else:
            new.append({"model_version": version, "day": _midnight(key.day), "kind": key.kind, **values})
    if new:
        connection.execute(insert(QualityDay), new)
    if changed:
        bound: dict[str, Any] = {"answers": bindparam("new_answers"), "sums": bindparam("new_sums")}
        connection.execute(update(QualityDay).where(_of_day(version)).values(bound), changed)
    if gone:
        connection.execute(delete(QualityDay).where(_of_day(version)), gone)


class _Scorers:
    """The scorers of the versions that were used last. A version is loaded once, because that takes 0.1 seconds."""

    def __init__(self) -> None:
        self._scorers: OrderedDict[tuple[str, tuple[float, ...]], OutcomeScorer | None] = OrderedDict()

    def of_version(self, connection: Connection, version: int) -> OutcomeScorer | None:
        """Return the scorer of a version; None if there is no such version, or if its artefact cannot be read."""
        this = col(ModelVersion.model_version) == version
        known = select(col(ModelVersion.sha256), col(ModelVersion.evaluation)).where(this)
        row = connection.execute(known).one_or_none()
        if row is None:
            return None
        exponents = (row.evaluation or {}).get("pooled_exponents")
        # The key is the content, so that a database that is replaced needs no other cache.
        key = (row.sha256, tuple(exponents or ()))
        if key not in self._scorers:
            artefact = connection.execute(select(col(ModelVersion.artefact)).where(this)).scalar_one()
            self._scorers[key] = _scorer(version, artefact, row.sha256, exponents)
            if len(self._scorers) > _MOST_SCORERS:
                self._scorers.popitem(last=False)
        self._scorers.move_to_end(key)
        return self._scorers[key]


_scorers = _Scorers()


def _scorer(
    version: int, artefact: bytes | None, digest: str, exponents: Sequence[float] | None
) -> OutcomeScorer | None:
    if artefact is None:
        return None
    try:
        return OutcomeScorer(FittedModel.from_bytes(bytes(artefact), digest), exponents)
    except DamagedModel as error:
        log.warning("the outcomes of a version cannot be scored", model_version=version, why=error.message)
        return None
