"""PredictionLog: a request and its prediction, together or not at all."""

import asyncio
import time

import pytest
from sqlalchemy import func, select, text

from zap.db import prediction_log
from zap.db.engine import PATIENCE_SECONDS
from zap.db.prediction_log import PredictionLog, check_writable, read_prediction
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import LogUnavailable, NotFound
from zap.ml.inference import Answer

ANSWER = Answer(
    "Level 2", {"Level 1": 0.25, "Level 2": 0.75}, model_version=3, features=b"12345678", history_sessions=2
)


@pytest.fixture
def log(engine):
    log = PredictionLog(engine)
    yield log
    log.close()


def count(engine):
    with engine.connect() as connection:
        return tuple(
            connection.scalar(select(func.count()).select_from(table)) for table in (InferenceInput, Prediction)
        )


def test_it_works(log, engine):
    asked = utc_now()

    logged = asyncio.run(log.record('{"é": 1}', asked, ANSWER))

    row = read_prediction(engine, logged.prediction_id)
    assert row["input_id"] == logged.input_id
    assert row["input_data_json"] == '{"é": 1}'
    assert row["request_timestamp"] == asked <= row["prediction_timestamp"]
    assert (row["source"], row["predicted_class"], row["actual_class"]) == ("inference", "Level 2", None)
    assert (row["probabilities"], row["model_version"]) == (ANSWER.probabilities, 3)


def test_probabilities_keep_every_bit(log, engine):
    shares = {"a": 0.1 + 0.2, "b": 1e-300, "c": 1 / 3}

    logged = log.write("{}", utc_now(), Answer("a", shares, 1, b"", 0))

    assert read_prediction(engine, logged.prediction_id)["probabilities"] == shares


def test_when_the_prediction_is_refused_the_request_is_not_there_either(log, engine):
    with pytest.raises(LogUnavailable):
        log.write("{}", utc_now(), Answer(None, {}, 1, b"", 0))

    assert count(engine) == (0, 0)


def test_what_was_accepted_is_committed_before_it_closes(engine):
    log = PredictionLog(engine)

    async def accept_and_close():
        tasks = [asyncio.create_task(log.record("{}", utc_now(), ANSWER)) for _ in range(20)]
        await asyncio.sleep(0)
        log.close()
        return await asyncio.gather(*tasks)

    logged = asyncio.run(accept_and_close())

    assert len({one.prediction_id for one in logged}) == 20
    assert count(engine) == (20, 20)


def test_a_prediction_that_is_not_there_is_not_found(engine):
    with pytest.raises(NotFound, match="7"):
        read_prediction(engine, 7)


def test_checking_writes_nothing(engine, log):
    log.write("{}", utc_now(), ANSWER)

    check_writable(engine)

    assert count(engine) == (1, 1)


def test_a_writer_that_holds_the_lock_is_waited_for(log, engine):
    """As a training does while it logs its rows."""

    async def contend():
        with engine.connect().execution_options(immediate=True) as other:
            other.execute(text("DELETE FROM predictions"))
            waiting = asyncio.create_task(log.record("{}", utc_now(), ANSWER))
            await asyncio.sleep(0.3)
            other.commit()
            return await waiting

    assert asyncio.run(contend()).prediction_id == 1


def test_after_it_closed_it_is_unavailable(log):
    log.close()

    with pytest.raises(LogUnavailable, match="stopping"):
        asyncio.run(log.record("{}", utc_now(), ANSWER))


def test_those_behind_one_that_waited_in_vain_do_not_wait_in_turn(log, engine, monkeypatch):
    monkeypatch.setattr(prediction_log, "PATIENCE_SECONDS", 0.2)

    async def contend():
        with engine.connect().execution_options(immediate=True) as other:
            other.execute(text("DELETE FROM predictions"))
            if engine.dialect.name == "postgresql":
                other.execute(text("LOCK TABLE inference_inputs"))
            waiting = [asyncio.create_task(log.record("{}", utc_now(), ANSWER)) for _ in range(20)]
            start = time.monotonic()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            other.rollback()
            return ended, time.monotonic() - start

    ended, seconds = asyncio.run(contend())

    assert [type(one) for one in ended] == [LogUnavailable] * 20
    # The first has waited for the database as long as a transaction does; twenty in turn would take twenty times that.
    assert seconds < 4 * PATIENCE_SECONDS
    assert count(engine) == (0, 0)
