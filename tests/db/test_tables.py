"""The two kinds of time, and what a row of the tables refuses."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, insert, literal, null, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import Session, SQLModel, col

from zap.db.engine import write_transaction
from zap.db.tables import ChargingSession, InferenceInput, Prediction, TrainingRun, utc_now

SESSIONS = SQLModel.metadata.tables["ChargingSessions"]
NEW_YEAR = datetime(2024, 1, 1)  # noqa: DTZ001


def add(engine, row):
    with Session(engine) as session:
        session.add(row)
        session.commit()


def read_one(engine, table):
    with Session(engine) as session:
        return session.scalars(select(table)).one()


def write_raw(engine, table, **texts):
    """What another tool would have written: past the types of the columns."""
    with write_transaction(engine) as connection:
        connection.execute(update(table).values({name: text(f"'{value}'") for name, value in texts.items()}))


def test_wall_time_comes_back_naive(engine):
    add(engine, ChargingSession(charging_start_time=NEW_YEAR))
    assert read_one(engine, ChargingSession).charging_start_time == NEW_YEAR


def test_wall_time_equals_the_same_moment_stored_by_another_tool(engine):
    add(engine, ChargingSession())
    write_raw(engine, SESSIONS, charging_start_time="2024-01-01 00:00:00")
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).where(col(ChargingSession.charging_start_time) == NEW_YEAR))


def test_wall_time_compares_in_sql_as_time_does(engine):
    add(engine, ChargingSession(charging_start_time=NEW_YEAR))
    start = col(ChargingSession.charging_start_time)
    with engine.connect() as connection:
        assert connection.scalar(select(start < NEW_YEAR + timedelta(seconds=1)))
        assert not connection.scalar(select(start > NEW_YEAR))


def test_wall_time_is_kept_to_the_second(engine):
    add(engine, ChargingSession(charging_start_time=NEW_YEAR.replace(microsecond=999_999)))
    assert read_one(engine, ChargingSession).charging_start_time == NEW_YEAR


def test_wall_time_with_an_offset_is_refused(engine):
    with pytest.raises(StatementError, match=r"2024-01-01T00:00:00\+00:00 has an offset"):
        add(engine, ChargingSession(charging_start_time=NEW_YEAR.replace(tzinfo=UTC)))


@pytest.mark.parametrize(
    "garbage", ["", "yesterday", "2024-13-01 00:00:00", "2024-01-01T00:00:00+01:00", "1704012300000"]
)
def test_a_text_that_is_no_wall_time_reads_as_none(sqlite_engine, garbage):
    add(sqlite_engine, ChargingSession(charger_type="Level 2"))
    write_raw(sqlite_engine, SESSIONS, charging_start_time=garbage)
    row = read_one(sqlite_engine, ChargingSession)
    assert (row.charging_start_time, row.charger_type) == (None, "Level 2")


def test_stamp_comes_back_in_utc(engine):
    paris = timezone(timedelta(hours=1))
    moment = datetime(2026, 11, 23, 19, 45, 0, 123_456, tzinfo=paris)
    add(engine, InferenceInput(request_timestamp=moment, input_data_json="{}"))
    stored = read_one(engine, InferenceInput).request_timestamp
    assert (stored, stored.utcoffset()) == (moment, timedelta(0))


def test_stamp_compares_in_sql_as_time_does(engine):
    before, after = utc_now(), utc_now() + timedelta(microseconds=1)
    add(engine, InferenceInput(request_timestamp=before, input_data_json="{}"))
    with engine.connect() as connection:
        assert connection.scalar(select(col(InferenceInput.request_timestamp) < after))


def test_stamp_says_utc_where_it_is_text(sqlite_engine):
    add(sqlite_engine, InferenceInput(request_timestamp=NEW_YEAR.replace(tzinfo=UTC), input_data_json="{}"))
    with sqlite_engine.connect() as connection:
        stored = connection.exec_driver_sql("SELECT request_timestamp FROM inference_inputs").scalar_one()
    assert stored == "2024-01-01T00:00:00.000000+00:00"


def test_stamp_without_an_offset_is_refused(engine):
    with pytest.raises(StatementError, match="2024-01-01T00:00:00 has no offset"):
        add(engine, InferenceInput(request_timestamp=NEW_YEAR, input_data_json="{}"))


@pytest.mark.parametrize(("legacy", "read"), [("2024-01-01T00:00:00", NEW_YEAR), ("1704067200", None), ("", None)])
def test_a_stamp_older_than_zap_reads_naive_or_as_none(sqlite_engine, legacy, read):
    add(sqlite_engine, InferenceInput(request_timestamp=utc_now(), input_data_json="{}"))
    write_raw(sqlite_engine, SQLModel.metadata.tables["inference_inputs"], request_timestamp=legacy)
    assert read_one(sqlite_engine, InferenceInput).request_timestamp == read


def test_a_prediction_is_of_a_training_or_of_a_request(engine):
    wrong = Prediction(prediction_timestamp=utc_now(), source="other", predicted_class="Level 2")
    with pytest.raises(IntegrityError):
        add(engine, wrong)


def test_a_prediction_of_no_stored_request_is_refused(engine):
    orphan = Prediction(input_id=7, prediction_timestamp=utc_now(), source="inference", predicted_class="Level 2")
    with pytest.raises(IntegrityError):
        add(engine, orphan)


def test_ids_are_not_used_again(engine):
    # A new row never gets the id of a deleted row.
    add(engine, TrainingRun(status="failed", started_at=utc_now()))
    with write_transaction(engine) as connection:
        connection.execute(SQLModel.metadata.tables["training_runs"].delete())
    add(engine, TrainingRun(status="failed", started_at=utc_now()))
    assert read_one(engine, TrainingRun).run_id == 2


def test_no_probabilities_are_null_in_sql(engine):
    # IS NULL would not find the JSON word null.
    row = {
        "prediction_timestamp": utc_now(),
        "source": "train",
        "predicted_class": "a",
        "probabilities": None,
    }
    with write_transaction(engine) as connection:
        connection.execute(insert(Prediction), row)
        assert connection.scalar(select(literal(1)).where(col(Prediction.probabilities).is_(null()))) == 1
