"""The tables. The names and columns of the first five are fixed by existing databases; the other tables are zap's own.

There are two kinds of time. `WallTime` is the drivers' naive local time, as in histories. `Stamp` is zap's own time in
UTC; a stamp that is older than zap has no known zone and is read as a naive time.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Dialect, Index, Integer, LargeBinary, Text, text
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from zap.db import shapes
from zap.db.stored_json import StoredJson

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class WallTime(TypeDecorator[datetime]):
    """Store naive local time to the second; on SQLite as the text `2024-01-31 18:05:00`, which SQL compares correctly.

    A text that is not a naive time is read as None, so that one such row does not make the table unreadable.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is not None:
            raise ValueError(f"{value.isoformat()} has an offset; give a wall time without one")
        moment = value.replace(microsecond=0)
        return str(moment) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        moment = _readable(value) if dialect.name == "sqlite" else value
        return moment if moment is None or moment.tzinfo is None else None


class Stamp(TypeDecorator[datetime]):
    """Store a moment in UTC; on SQLite as the text `2024-01-31T18:05:00.000000+00:00`.

    A text without an offset is older than zap and is read as a naive time. A text that is not a time is read as None.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # SQLite's DATETIME would turn a legacy text of digits into a number; TEXT keeps every byte.
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no offset; give a moment in UTC")
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        moment = _readable(value) if dialect.name == "sqlite" else value
        return moment if moment is None or moment.tzinfo is None else moment.astimezone(UTC)


def _readable(text: Any) -> datetime | None:
    try:
        # Python would read some counts of milliseconds as times without dashes.
        return datetime.fromisoformat(text) if text[4:5] == "-" else None
    except (TypeError, ValueError):
        return None


# 64 bits on PostgreSQL. On SQLite every INTEGER has 64 bits, and only an INTEGER PRIMARY KEY is the row id.
Id = BigInteger().with_variant(Integer, "sqlite")


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


# The history: users, their vehicles, their sessions. No foreign keys, because sessions may name unknown users.


class User(SQLModel, table=True):
    """One driver."""

    __tablename__ = "Users"

    user_id: str = Field(primary_key=True)
    user_type: str | None = None


class Vehicle(SQLModel, table=True):
    """One vehicle of a driver."""

    __tablename__ = "Vehicles"
    __table_args__ = {"sqlite_autoincrement": True}

    vehicle_id: int = Field(default=None, primary_key=True, sa_type=Id)
    user_id: str | None = Field(default=None, index=True)
    vehicle_model: str | None = None
    battery_capacity_kwh: float | None = None
    vehicle_age_years: float | None = None


class ChargingSession(SQLModel, table=True):
    """One charging session.

    Attributes:
        timestamp: when the session was first stored, as wall time like its start, so that both times can be compared.
            zap writes it with the first report of a session. An import stores it only if the file has it.
    """

    __tablename__ = "ChargingSessions"
    __table_args__ = (
        Index(None, "user_id", "charging_start_time"),
        {"sqlite_autoincrement": True},
    )

    session_id: int = Field(default=None, primary_key=True, sa_type=Id)
    user_id: str | None = None
    vehicle_id: int | None = Field(default=None, sa_type=Id)
    charging_station_id: str | None = None
    charging_station_location: str | None = None
    charger_type: str | None = Field(default=None, index=True)
    charging_start_time: datetime | None = Field(default=None, index=True, sa_type=WallTime)
    charging_end_time: datetime | None = Field(default=None, sa_type=WallTime)
    energy_consumed_kwh: float | None = None
    charging_duration_hours: float | None = None
    charging_rate_kw: float | None = None
    charging_cost_usd: float | None = None
    time_of_day: str | None = None
    day_of_week: str | None = None
    state_of_charge_start: float | None = None
    state_of_charge_end: float | None = None
    distance_driven_km: float | None = None
    temperature_c: float | None = None
    timestamp: datetime | None = Field(default=None, sa_type=WallTime)


# The log: requests and predictions.


class InferenceInput(SQLModel, table=True):
    """One request, as the client sent it."""

    __tablename__ = "inference_inputs"
    __table_args__ = {"sqlite_autoincrement": True}

    input_id: int = Field(default=None, primary_key=True, sa_type=Id)
    request_timestamp: datetime = Field(sa_type=Stamp)
    input_data_json: str = Field(sa_type=Text)


# The predictions of trainings. Queries use this text, not a bound value, because PostgreSQL's generic plans would then
# not use the partial index.
OF_TRAINING = text("source = 'train'")
_OF_A_REQUEST = text("input_id IS NOT NULL")


class Prediction(SQLModel, table=True):
    """One prediction: for a request (`source` inference), or of a training for its training rows (`source` train)."""

    __tablename__ = "predictions"
    __table_args__ = (
        CheckConstraint("source IN ('train', 'inference')", name="source"),
        # Partial indexes: each holds only the rows that are searched by it, so less is written for each row.
        Index(None, "model_version", sqlite_where=OF_TRAINING, postgresql_where=OF_TRAINING),
        Index(None, "input_id", sqlite_where=_OF_A_REQUEST, postgresql_where=_OF_A_REQUEST),
        {"sqlite_autoincrement": True},
    )

    prediction_id: int = Field(default=None, primary_key=True, sa_type=Id)
    input_id: int | None = Field(default=None, foreign_key="inference_inputs.input_id", sa_type=Id)
    prediction_timestamp: datetime = Field(sa_type=Stamp)
    source: str
    predicted_class: str
    actual_class: str | None = None
    # NULL in rows that are older than zap.
    model_version: int | None = Field(default=None, sa_type=Id)
    probabilities: dict[str, float] | None = Field(default=None, sa_type=StoredJson(shapes.SHARES))
    # The float64 row that was scored, for inference only: little-endian, in the order of the version's columns.
    features: bytes | None = Field(default=None, sa_type=LargeBinary)


# zap's own tables.


class SessionFacts(SQLModel, table=True):
    """The facts about the driver and the vehicle of one session at the time when it was imported or reported.

    Users and Vehicles hold the current facts. No foreign key, because other programs may remove a session.
    """

    __tablename__ = "session_facts"

    session_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    user_type: str | None = None
    vehicle_model: str | None = None
    battery_capacity_kwh: float | None = None
    vehicle_age_years: float | None = None


class SessionTextId(SQLModel, table=True):
    """The id of a session that the app names by a text. ChargingSessions has a negative number for this session.

    No foreign key, because other programs may remove a session.
    """

    __tablename__ = "session_text_ids"

    text_id: str = Field(primary_key=True)
    session_id: int = Field(index=True, unique=True, sa_type=Id)


# On SQLite no row is in this index.
_OF_A_TRANSACTION = text("transaction_id IS NOT NULL")


class SessionChange(SQLModel, table=True):
    """One change of ChargingSessions by any program. Triggers write the rows; old rows are pruned.

    A row without a `session_id` says that any session may have changed.
    """

    __tablename__ = "session_changes"
    __table_args__ = (
        Index(None, "transaction_id", sqlite_where=_OF_A_TRANSACTION, postgresql_where=_OF_A_TRANSACTION),
        {"sqlite_autoincrement": True},
    )

    change_id: int = Field(default=None, primary_key=True, sa_type=Id)
    session_id: int | None = Field(default=None, sa_type=Id)
    user_id: str | None = None
    # The stored text; it may be no time.
    charging_start_time: str | None = None
    changed_at: datetime = Field(sa_type=Stamp)
    # Only on PostgreSQL: the transaction that writes, and the oldest transaction that had not ended then.
    transaction_id: int | None = Field(default=None, sa_type=Id)
    oldest_running: int | None = Field(default=None, sa_type=Id)


_RUNNING = text("status = 'running'")


class TrainingRun(SQLModel, table=True):
    """One training, or one search for hyper-parameters, from its start to its report or its error.

    At most one run is running: its row keeps a second run out as long as its heartbeat goes on.
    """

    __tablename__ = "training_runs"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'finished', 'failed', 'cancelled')", name="known_status"),
        CheckConstraint("kind IN ('train', 'tune')", name="kind"),
        Index(None, "status", unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        {"sqlite_autoincrement": True},
    )

    run_id: int = Field(default=None, primary_key=True, sa_type=Id)
    kind: str = Field(sa_column_kwargs={"server_default": "train"})
    status: str
    started_at: datetime = Field(sa_type=Stamp)
    # When its process last reported, on the clock of the database; NULL before the process has started.
    heartbeat_at: datetime | None = Field(default=None, sa_type=Stamp)
    finished_at: datetime | None = Field(default=None, sa_type=Stamp)
    # The options of the request or the command.
    options: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.OBJECT))
    # The reply of /train-model if the run finished, or the problem details if it failed.
    report: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.REPORT))


class TrainingEvent(SQLModel, table=True):
    """One progress report of a run. Rows are only added, and the rows of old runs are pruned."""

    __tablename__ = "training_events"
    __table_args__ = {"sqlite_autoincrement": True}

    event_id: int = Field(default=None, primary_key=True, sa_type=Id)
    run_id: int = Field(foreign_key="training_runs.run_id", index=True, sa_type=Id)
    created_at: datetime = Field(sa_type=Stamp)
    data: dict[str, Any] = Field(sa_type=StoredJson(shapes.EVENT))


class Tuning(SQLModel, table=True):
    """One search for hyper-parameters. Trainings use the newest one. Rows are only added."""

    __tablename__ = "tunings"
    __table_args__ = {"sqlite_autoincrement": True}

    tuning_id: int = Field(default=None, primary_key=True, sa_type=Id)
    created_at: datetime = Field(sa_type=Stamp)
    # NULL: later trainings use the defaults again.
    hyper_parameters: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.TUNED))
    # Every trial with its log loss on each fold.
    evidence: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.TUNING_EVIDENCE))


_IN_PRODUCTION = text("status = 'production'")


class ModelVersion(SQLModel, table=True):
    """One trained model: its artefact and the facts about it. At most one version is in production."""

    __tablename__ = "model_versions"
    __table_args__ = (
        CheckConstraint("status IN ('candidate', 'production', 'archived')", name="status"),
        Index(None, "status", unique=True, sqlite_where=_IN_PRODUCTION, postgresql_where=_IN_PRODUCTION),
        {"sqlite_autoincrement": True},
    )

    model_version: int = Field(default=None, primary_key=True, sa_type=Id)
    run_id: int = Field(foreign_key="training_runs.run_id", index=True, sa_type=Id)
    # candidate: never served. archived: served earlier.
    status: str
    created_at: datetime = Field(sa_type=Stamp)
    # NULL after pruning, which removes the artefacts of old candidates.
    artefact: bytes | None = Field(default=None, sa_type=LargeBinary)
    sha256: str = Field(index=True)
    # The SHA-256 of the model file as it was exported last, or as the training makes it. After an upgrade from a zap
    # that stored the bytes of the file as the artefact, it is the SHA-256 of these bytes until the next export.
    file_sha256: str | None = Field(default=None, index=True)
    hyper_parameters: dict[str, Any] = Field(sa_type=StoredJson(shapes.HYPER_PARAMETERS))
    contract: dict[str, Any] = Field(sa_type=StoredJson(shapes.NEEDED_OBJECT))
    # The scores of the model and of the baselines.
    evaluation: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.EVALUATION))

    # The columns below are NULL in versions that are older than these columns.
    hyper_parameters_from: str | None = None
    # Each feature with its dtype, unit, range and known values; then the columns of the booster's matrix, in order.
    features: list[dict[str, Any]] | None = Field(default=None, sa_type=StoredJson(shapes.FEATURES))
    columns: list[str] | None = Field(default=None, sa_type=StoredJson(shapes.TEXTS))
    classes: list[str] | None = Field(default=None, sa_type=StoredJson(shapes.TEXTS))
    # The starts of the first and the last session that the version was trained on.
    trained_from: datetime | None = Field(default=None, sa_type=WallTime)
    trained_until: datetime | None = Field(default=None, sa_type=WallTime)
    # The start of the newest session that the search for its hyper-parameters has seen; NULL without a search.
    tuned_until: datetime | None = Field(default=None, sa_type=WallTime)
    trained_samples: int | None = None
    test_samples: int | None = None
    # The hash of the sessions trained on and of the sessions before them; for each month, the number and the hash.
    rows_sha256: str | None = None
    rows_by_month: dict[str, Any] | None = Field(default=None, sa_type=StoredJson(shapes.ROWS_BY_MONTH))
    trees_sha256: str | None = None
    seed: int | None = None
    libraries: dict[str, str] | None = Field(default=None, sa_type=StoredJson(shapes.LIBRARIES))
    code_version: str | None = None
    # Requests, each with the answer that the version gave when it was trained.
    golden: list[dict[str, Any]] | None = Field(default=None, sa_type=StoredJson(shapes.LIST))
    note: str | None = None


class Promotion(SQLModel, table=True):
    """One change of the version in production. Rows are only added."""

    __tablename__ = "promotions"
    __table_args__ = (
        CheckConstraint("action IN ('promote', 'rollback')", name="action"),
        {"sqlite_autoincrement": True},
    )

    promotion_id: int = Field(default=None, primary_key=True, sa_type=Id)
    promoted_at: datetime = Field(sa_type=Stamp)
    action: str
    # NULL: no version served before.
    from_version: int | None = Field(default=None, foreign_key="model_versions.model_version", sa_type=Id)
    to_version: int = Field(foreign_key="model_versions.model_version", index=True, sa_type=Id)
    who: str | None = None
    why: str | None = None
