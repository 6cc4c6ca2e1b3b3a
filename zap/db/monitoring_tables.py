"""The tables of what happened after an answer. Only the follower writes them, except where a class says otherwise.

The rows of `outcomes`, `quality_days` and the followed part of `data_quality_days` follow from the log and the history:
`zap follow --from-start` makes them again. When outcomes arrived does not follow from them, and is kept.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from zap.db import shapes
from zap.db.stored_json import StoredJson
from zap.db.tables import Id, Stamp, WallTime

_MATCHED = text("session_id IS NOT NULL")
_STANDING = text("until IS NULL")
_RUNNING = text("status = 'running'")


class Follower(SQLModel, table=True):
    """How far the follower has read, and which process follows. The table has one row."""

    __tablename__ = "follower"

    follower_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    # The process that follows, and when it last reported, on the clock of the database. NULL: no process follows.
    holder: str | None = None
    heartbeat_at: datetime | None = Field(default=None, sa_type=Stamp)
    # All predictions up to this id are followed, except the missing ids: they may be in a transaction that still runs.
    prediction_id: int = Field(sa_type=Id)
    missing: list[Any] | None = Field(default=None, sa_type=StoredJson(shapes.LIST))
    # The mark of the changes of ChargingSessions; NULL before the first look.
    session_mark: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.OBJECT))
    # While all outcomes are matched again: the last answer that was matched. NULL otherwise.
    rematched_until: int | None = Field(default=None, sa_type=Id)
    # Requests from before this midnight (UTC) were removed; NULL: none were. Their daily sums stay.
    removed_before: datetime | None = Field(default=None, sa_type=Stamp)
    # How many rows of each table a removal has removed that has not come to its end. NULL otherwise.
    removing: dict[str, int] | None = Field(default=None, sa_type=StoredJson(shapes.REMOVED))


class Outcome(SQLModel, table=True):
    """What happened after one answer. There is one row for each followed answer to a request.

    Attributes:
        asked_at: the moment that was asked about, as the drivers' wall time.
        kind: `live`, or `backtest` if the moment lies before the request by more than the horizon.
        status: `matched`; `superseded` if another answer has the session; `waiting` if no session is known so far;
            `no_driver` if the request named no driver and no report named the answer.
        session_id: the session of a matched or superseded answer.
        actual_class: the type of this session.
        lag_seconds: from the moment that was asked about to the start of the session; negative if it began earlier.
        matched_by: `report` if the report of the session named the answer, `time` otherwise.
        superseded_by: the next answer with this session; for the last of these answers, the answer that the report
            named.
    """

    __tablename__ = "outcomes"
    __table_args__ = (
        CheckConstraint("kind IN ('live', 'backtest')", name="kind"),
        CheckConstraint("status IN ('matched', 'superseded', 'waiting', 'no_driver')", name="status"),
        Index(None, "user_id", "asked_at", "prediction_id"),
        Index(None, "model_version", "asked_at"),
        Index(None, "session_id", sqlite_where=_MATCHED, postgresql_where=_MATCHED),
    )

    prediction_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    model_version: int | None = Field(default=None, sa_type=Id)
    user_id: str | None = None
    asked_at: datetime = Field(sa_type=WallTime)
    kind: str
    status: str
    session_id: int | None = Field(default=None, sa_type=Id)
    actual_class: str | None = None
    lag_seconds: int | None = Field(default=None, sa_type=Id)
    matched_by: str | None = None
    superseded_by: int | None = Field(default=None, sa_type=Id)


class SessionPrediction(SQLModel, table=True):
    """The answer that a session followed, as its report named it. Reports write the rows.

    No foreign key, because other programs may remove a session.
    """

    __tablename__ = "session_predictions"

    session_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    prediction_id: int = Field(index=True, sa_type=Id)


class QualityDay(SQLModel, table=True):
    """The sums of the outcomes of one version and one day. They are whole numbers, so their order does not matter.

    Attributes:
        day: midnight of the day that was asked about, as the drivers' wall time.
        kind: as in Outcome.
        answers: the number of answers by the status of their outcome; `with_driver` and `unscored` as in
            `zap.monitoring.outcome_scoring.Day`.
        sums: the sums of the scores, `zap.monitoring.quality_sums`; NULL if the version could not be loaded.
    """

    __tablename__ = "quality_days"

    model_version: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    day: datetime = Field(primary_key=True, sa_type=WallTime)
    kind: str = Field(primary_key=True)
    answers: dict[str, Any] = Field(sa_type=StoredJson(shapes.COUNTS))
    sums: bytes | None = Field(default=None, sa_type=LargeBinary)


class DataQualityDay(SQLModel, table=True):
    """How often something was found in the values of one field on one day.

    Attributes:
        day: midnight of the day (UTC) on which the request, the report or the outcome arrived.
        subject: `requests` (answered ones, which the follower counts), `sessions` (which their reports count),
            `refused` (requests) or `refused_reports`, which servers count; `outcomes`, which the follower counts when
            they arrive.
        field: the name of a field, or the name of another part of a request; `` for the request as a whole. For
            outcomes the hour (UTC), such as `07`.
        found: what was found, such as `missing`. For outcomes how late they arrived, such as `24 h`: the hours from the
            start of the session at most.
        count: how often.
    """

    __tablename__ = "data_quality_days"

    day: datetime = Field(primary_key=True, sa_type=WallTime)
    subject: str = Field(primary_key=True)
    field: str = Field(primary_key=True)
    found: str = Field(primary_key=True)
    count: int = Field(sa_type=Id)


class MonitorState(SQLModel, table=True):
    """What a monitor of one version remembers: the reference and the state of drift, the promise and state of harm.

    Attributes:
        kind: `drift` or `harm`.
        reference: what the monitor compares with, computed once for a version.
        state: all that the monitor remembers.
        prediction_id: the last answer that the state has counted; NULL if the state counts days.
    """

    __tablename__ = "monitor_states"
    __table_args__ = (CheckConstraint("kind IN ('drift', 'harm')", name="kind"),)

    model_version: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    kind: str = Field(primary_key=True)
    reference: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.OBJECT))
    state: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.OBJECT))
    prediction_id: int | None = Field(default=None, sa_type=Id)
    updated_at: datetime = Field(sa_type=Stamp)


class Alarm(SQLModel, table=True):
    """One alarm, from when it was raised until it was resolved. At most one alarm of a kind and subject stands.

    Attributes:
        kind: what is wrong, such as `harm`.
        subject: what it is about, such as `version 7`; `` if the kind has only one subject.
        since: when it was raised.
        until: when it was resolved; NULL while it stands.
        message: the sentence that people read.
        evidence: the figures.
        acknowledged_by: who has seen it.
    """

    __tablename__ = "alarms"
    __table_args__ = (
        Index(None, "kind", "subject", unique=True, sqlite_where=_STANDING, postgresql_where=_STANDING),
        {"sqlite_autoincrement": True},
    )

    alarm_id: int = Field(default=None, primary_key=True, sa_type=Id)
    kind: str
    subject: str
    since: datetime = Field(sa_type=Stamp)
    until: datetime | None = Field(default=None, sa_type=Stamp)
    message: str = Field(sa_type=Text)
    evidence: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.OBJECT))
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = Field(default=None, sa_type=Stamp)


_UNDELIVERED = text("delivered_at IS NULL AND given_up_at IS NULL")


class AlarmDelivery(SQLModel, table=True):
    """One message about an alarm that is to be posted to ZAP_ALARM_URL: the outbox.

    Attributes:
        message_id: the `webhook-id`, which is equal in each attempt.
        body: the JSON that is posted.
        next_attempt_at: when to post it next.
        last_error: why the last attempt failed.
    """

    __tablename__ = "alarm_deliveries"
    __table_args__ = (
        Index(None, "next_attempt_at", sqlite_where=_UNDELIVERED, postgresql_where=_UNDELIVERED),
        {"sqlite_autoincrement": True},
    )

    delivery_id: int = Field(default=None, primary_key=True, sa_type=Id)
    alarm_id: int = Field(foreign_key="alarms.alarm_id", index=True, sa_type=Id)
    message_id: str = Field(index=True, unique=True)
    body: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=Stamp)
    attempts: int
    next_attempt_at: datetime = Field(sa_type=Stamp)
    delivered_at: datetime | None = Field(default=None, sa_type=Stamp)
    given_up_at: datetime | None = Field(default=None, sa_type=Stamp)
    last_error: str | None = None


class Trial(SQLModel, table=True):
    """One trial: a challenger that answers beside the champion, unseen, until a verdict or its longest time.

    Attributes:
        model_version: the challenger.
        champion_version: the version that served when the trial began.
        status: `running`, a verdict, or `ended` if somebody ended it.
        epsilon: a score that is higher by less counts as not worse; fixed before the trial begins.
        on_better: `promote`, or `tell`.
        longest_until: when the trial ends without a verdict.
        state: all that the trial remembers.
        evidence: the figures of the newest look.
    """

    __tablename__ = "trials"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'better', 'not_worse', 'worse', 'undecided', 'ended')", name="status"),
        CheckConstraint("on_better IN ('promote', 'tell')", name="on_better"),
        Index(None, "model_version", unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        {"sqlite_autoincrement": True},
    )

    trial_id: int = Field(default=None, primary_key=True, sa_type=Id)
    model_version: int = Field(foreign_key="model_versions.model_version", sa_type=Id)
    champion_version: int = Field(foreign_key="model_versions.model_version", sa_type=Id)
    status: str
    epsilon: float
    on_better: str
    started_at: datetime = Field(sa_type=Stamp)
    longest_until: datetime = Field(sa_type=Stamp)
    ended_at: datetime | None = Field(default=None, sa_type=Stamp)
    # The challenger answers the requests after this answer of the champion.
    after_prediction_id: int = Field(sa_type=Id)
    state: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.TRIAL_STATE))
    evidence: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.TRIAL_EVIDENCE))
    who: str | None = None
    why: str | None = None


class TrialPrediction(SQLModel, table=True):
    """What a challenger would have answered to one request, until 90 days after the end of the trial."""

    __tablename__ = "trial_predictions"

    trial_id: int = Field(primary_key=True, foreign_key="trials.trial_id", sa_type=Id)
    # The answer of the champion to the same request.
    prediction_id: int = Field(primary_key=True, sa_type=Id)
    predicted_class: str
    probabilities: dict[str, float] = Field(sa_type=StoredJson(shapes.NEEDED_SHARES))
    features: bytes = Field(sa_type=LargeBinary)


class ServingCount(SQLModel, table=True):
    """What one server process answered in one minute, or what all processes answered in some minutes. Servers write it.

    A process names itself and numbers its minutes, so that a row that is written again adds nothing. After 70 minutes
    the rows of all processes become one row for each ten minutes, and after 25 hours one row for each hour.

    Attributes:
        minutes: how many minutes the row is about: 1, 10 or 60.
        begins_at: when they began, on the clock of the database.
        subject: what is counted, such as `predict`, see `zap.monitoring.answer_counts`.
        process: the server process; `` for all.
        number: of the minute in this process, from 1; 0 for all processes.
        answered: the number of answers.
        refused: the number of replies 4xx.
        failed: the number of replies 5xx.
        nanoseconds: how long all answers took together.
        buckets: the number of answers by the number of their bucket of `zap.monitoring.answer_counts.BOUNDS`.
    """

    __tablename__ = "serving_counts"
    __table_args__ = (CheckConstraint("minutes IN (1, 10, 60)", name="minutes"),)

    minutes: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    begins_at: datetime = Field(primary_key=True, sa_type=Stamp)
    subject: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    answered: int = Field(sa_type=Id)
    refused: int = Field(sa_type=Id)
    failed: int = Field(sa_type=Id)
    nanoseconds: int = Field(sa_type=Id)
    buckets: dict[str, int] = Field(sa_type=StoredJson(shapes.BUCKETS))
