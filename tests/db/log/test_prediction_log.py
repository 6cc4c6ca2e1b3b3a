"""PredictionLog: a request and its prediction, together or not at all."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import distinct, func, select, text
from sqlmodel import col

from zap.db.engine import RawConnection, create_engine
from zap.db.log import prediction_log
from zap.db.log.prediction_log import Entry, Logged, PredictionLog, check_writable
from zap.db.log.stored_predictions import read_features, read_prediction
from zap.db.log.training_log import log_train_predictions
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import DamagedModel, LogUnavailable, NotFound
from zap.ml.inference import Answer
from zap.threads import PATIENCE_SECONDS

ANSWER = Answer(
    "Level 2", {"Level 1": 0.25, "Level 2": 0.75}, model_version=3, features=b"12345678", history_sessions=2
)


@pytest.fixture
def log(engine):
    log = PredictionLog(engine)
    yield log
    log.close()


async def recorded(log, text, received_at, answer):
    """Where a request stands whose answer is known already."""
    given, logged = await log.record(text, received_at, lambda: answer)
    assert given is answer
    return logged


def count(engine):
    # In one statement: the writer may commit between two.
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in (InferenceInput, Prediction)]
    with engine.connect() as connection:
        return tuple(connection.execute(select(*counts)).one())


def test_it_works(log, engine):
    asked = utc_now()

    logged = asyncio.run(recorded(log, '{"é": 1}', asked, ANSWER))

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


def record_all(log, requests):
    """What becomes of requests that come at once: each Logged, or its error."""

    async def story():
        return await asyncio.gather(*(recorded(log, *request) for request in requests), return_exceptions=True)

    return asyncio.run(story())


def test_those_that_come_at_once_are_committed_together_and_each_exactly_once(log, engine):
    logged = record_all(log, [(f'{{"n": {number}}}', utc_now(), ANSWER) for number in range(2000)])

    assert count(engine) == (2000, 2000)
    assert len(set(logged)) == 2000
    for number in (0, 999, 1999):
        row = read_prediction(engine, logged[number].prediction_id)
        assert (row["input_id"], row["input_data_json"]) == (logged[number].input_id, f'{{"n": {number}}}')
    with engine.connect() as connection:
        # One transaction has one time.
        assert connection.scalar(select(func.count(distinct(col(Prediction.prediction_timestamp))))) < 100


def test_two_processes_that_log_at_once_give_no_id_twice(engine, database_url):
    # Each process has its own engine and writer, and a training logs its rows at the same time.
    engines = [create_engine(database_url) for _ in range(2)]
    logs = [PredictionLog(one) for one in engines]

    async def story():
        return await asyncio.gather(*(recorded(log, "{}", utc_now(), ANSWER) for _ in range(300) for log in logs))

    def train():
        probabilities = np.tile([0.5, 0.5], (3000, 1))
        return list(log_train_predictions(engine, lambda _: None, 9, ["A", "B"], ["A"] * 3000, probabilities))

    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train)
        logged = asyncio.run(story())
        training.result()
    for one, of_engine in zip(logs, engines, strict=True):
        one.close()
        of_engine.dispose()

    assert len({one.prediction_id for one in logged}) == len({one.input_id for one in logged}) == 600
    assert count(engine) == (600, 3600)


# Few are sent to PostgreSQL otherwise than many.
@pytest.mark.parametrize("n", [20, 200])
def test_a_row_that_cannot_be_stored_fails_alone(log, engine, n):
    poison = Answer(None, {}, 1, b"", 0)
    requests = [("{}", utc_now(), poison if number == 7 else ANSWER) for number in range(n)]

    outcomes = record_all(log, requests)

    assert [type(one) for one in outcomes] == [Logged] * 7 + [LogUnavailable] + [Logged] * (n - 8)
    assert count(engine) == (n - 1, n - 1)


def test_what_failed_at_its_commit_is_not_written_a_second_time(log, engine, refuse_commits, monkeypatch):
    # The rows may be in the database after all, and no client got an answer.
    written = []
    insert = prediction_log._insert
    monkeypatch.setattr(
        prediction_log, "_insert", lambda *values, **named: written.append(1) or insert(*values, **named)
    )
    refuse_commits(engine)

    waiting = prediction_log._Waiting([Entry("{}", utc_now(), ANSWER)], time.monotonic() + 60, None)
    outcomes = log._commit(RawConnection(engine), [waiting] * 3)

    assert [type(one) for one in outcomes] == [LogUnavailable] * 3
    assert len(written) == 1
    assert count(engine) == (0, 0)


@pytest.mark.parametrize("n", [3, 200])
def test_a_text_that_no_driver_takes_fails_alone(log, engine, n):
    outcomes = record_all(log, [("\ud800" if number == 1 else "{}", utc_now(), ANSWER) for number in range(n)])

    assert [type(one) for one in outcomes] == [Logged, LogUnavailable] + [Logged] * (n - 2)
    assert count(engine) == (n - 1, n - 1)


@pytest.mark.parametrize("n", [1, 200])
def test_texts_and_bytes_of_any_kind_are_kept(log, engine, n):
    text = '{"é": "\\t \t \\n \n \\\\ \\N \\. \r", \'x\': %s, "\U0001f50c": \x7f}'
    answer = Answer('50 % "fast"\t\\N', {'"\\': 0.1 + 0.2}, 1, bytes(range(256)), 0)

    logged = log.write_all([Entry(text, utc_now(), answer)] * n)

    assert count(engine) == (n, n)
    row = read_prediction(engine, logged[-1].prediction_id)
    assert (row["input_data_json"], row["predicted_class"], row["probabilities"]) == (
        text,
        answer.predicted_class,
        answer.probabilities,
    )
    assert read_features(engine, logged[-1].prediction_id).features == answer.features


def test_an_answer_that_fails_fails_alone(log, engine):
    def fail():
        raise DamagedModel("the trees are broken")

    async def story():
        answers = [lambda: ANSWER, fail, lambda: ANSWER]
        return await asyncio.gather(*(log.record("{}", utc_now(), one) for one in answers), return_exceptions=True)

    first, second, third = asyncio.run(story())

    assert isinstance(second, DamagedModel)
    assert {type(one) for _, one in (first, third)} == {Logged}
    assert count(engine) == (2, 2)


def test_those_that_come_at_once_are_answered_directly_one_after_the_other(log):
    # Other work in between would push the trees out of the processor's caches.
    told = []

    async def ask(number):
        told.append(("asked", number))
        await log.record("{}", utc_now(), lambda: told.append(("answered", number)) or ANSWER)

    async def story():
        await asyncio.gather(*map(ask, range(20)))

    asyncio.run(story())

    assert told == [(what, number) for what in ("asked", "answered") for number in range(20)]


def test_more_than_may_wait_are_refused_at_once(log, engine, monkeypatch):
    monkeypatch.setattr(prediction_log, "MOST_WAITING", 10)

    outcomes = record_all(log, [("{}", utc_now(), ANSWER)] * 2000)

    refused = [one for one in outcomes if isinstance(one, LogUnavailable)]
    assert 0 < len(refused) < 2000
    assert "already wait for the database" in refused[0].message
    assert count(engine) == (2000 - len(refused), 2000 - len(refused))


def test_beside_the_largest_batch_single_requests_are_taken(log, engine):
    async def story():
        batch = asyncio.create_task(log.record_all([Entry("{}", utc_now(), ANSWER)] * 20_000))
        await asyncio.sleep(0)
        return await asyncio.gather(batch, *(recorded(log, "{}", utc_now(), ANSWER) for _ in range(20)))

    many, *single = asyncio.run(story())

    assert [type(one) for one in single] == [Logged] * 20
    assert len({*many, *single}) == 20_020
    assert count(engine) == (20_020, 20_020)


def test_a_batch_is_logged_whole_or_not_at_all(log, engine):
    poisoned = [Entry(text, utc_now(), ANSWER) for text in ("{}", "\ud800", "{}")]

    async def story():
        return await asyncio.gather(
            log.record_all(poisoned), log.record_all(poisoned[:1] * 3), log.record_all([]), return_exceptions=True
        )

    refused, logged, nothing = asyncio.run(story())

    assert isinstance(refused, LogUnavailable)
    assert (len(logged), nothing) == (3, [])
    assert count(engine) == (3, 3)


def test_a_client_that_has_gone_keeps_nobody_else_waiting(log, engine):
    async def story():
        gone = asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER))
        await asyncio.sleep(0)
        gone.cancel()
        return await recorded(log, "{}", utc_now(), ANSWER)

    assert isinstance(asyncio.run(story()), Logged)


def test_ids_go_on_after_rows_that_are_gone(log, engine):
    log.write("{}", utc_now(), ANSWER)
    second = log.write("{}", utc_now(), ANSWER)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM predictions"))
        connection.execute(text("DELETE FROM inference_inputs"))

    third = log.write("{}", utc_now(), ANSWER)

    assert (third.input_id, third.prediction_id) == (second.input_id + 1, second.prediction_id + 1)


def test_what_was_accepted_is_committed_before_it_closes(engine):
    log = PredictionLog(engine)

    async def accept_and_close():
        tasks = [asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER)) for _ in range(20)]
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
    # A training holds the lock while it logs its rows.
    async def contend():
        with engine.connect().execution_options(immediate=True) as other:
            other.execute(text("DELETE FROM predictions"))
            waiting = asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER))
            await asyncio.sleep(0.3)
            other.commit()
            return await waiting

    assert asyncio.run(contend()).prediction_id == 1


def test_after_it_closed_it_is_unavailable(log):
    log.close()

    with pytest.raises(LogUnavailable, match="stopping"):
        asyncio.run(recorded(log, "{}", utc_now(), ANSWER))


def test_those_behind_one_that_waited_in_vain_do_not_wait_in_turn(log, engine, monkeypatch):
    monkeypatch.setattr(prediction_log, "PATIENCE_SECONDS", 0.2)

    async def contend():
        with engine.connect().execution_options(immediate=True) as other:
            other.execute(text("DELETE FROM predictions"))
            if engine.dialect.name == "postgresql":
                other.execute(text("LOCK TABLE inference_inputs"))
            waiting = [asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER)) for _ in range(20)]
            start = time.monotonic()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            other.rollback()
            return ended, time.monotonic() - start

    ended, seconds = asyncio.run(contend())

    assert [type(one) for one in ended] == [LogUnavailable] * 20
    # The first has waited for the database as long as a transaction does; twenty in turn would take twenty times that.
    assert seconds < 4 * PATIENCE_SECONDS
    # PostgreSQL waits for a lock longer than the patience here: the first group may be written after its clients were
    # told that nobody knows. Nobody else's rows are.
    requests, predictions = count(engine)
    assert requests == predictions
    assert requests == 0 or engine.dialect.name == "postgresql"


def test_a_writer_that_cannot_start_once_refuses_and_is_tried_again(log, engine, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    async def story():
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", start)
            refused = await asyncio.gather(
                *(recorded(log, "{}", utc_now(), ANSWER) for _ in range(3)), return_exceptions=True
            )
        return refused, await asyncio.wait_for(recorded(log, "{}", utc_now(), ANSWER), 20)

    refused, logged = asyncio.run(story())

    assert [type(one) for one in refused] == [LogUnavailable] * 3
    assert isinstance(logged, Logged)
    assert count(engine) == (1, 1)


def test_whatever_happens_to_the_writer_the_next_request_is_answered(log, engine, monkeypatch):
    commit = log._commit
    monkeypatch.setattr(log, "_commit", lambda *_: 1 / 0)
    with pytest.raises(LogUnavailable):
        asyncio.run(recorded(log, "{}", utc_now(), ANSWER))
    monkeypatch.setattr(log, "_commit", commit)

    assert isinstance(asyncio.run(recorded(log, "{}", utc_now(), ANSWER)), Logged)


def test_while_the_writer_hangs_everybody_is_refused_in_time_and_nothing_of_them_is_written(log, engine, monkeypatch):
    monkeypatch.setattr(prediction_log, "PATIENCE_SECONDS", 0.5)
    go_on, insert = threading.Event(), prediction_log._insert

    def hang(*values, **named):
        go_on.wait(20)
        return insert(*values, **named)

    monkeypatch.setattr(prediction_log, "_insert", hang)

    async def story():
        waiting = [asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER))]
        await asyncio.sleep(0.2)
        waiting += [asyncio.create_task(recorded(log, "{}", utc_now(), ANSWER)) for _ in range(5)]
        ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        assert not go_on.is_set()
        go_on.set()
        monkeypatch.setattr(prediction_log, "PATIENCE_SECONDS", 20)
        return ended, await recorded(log, "{}", utc_now(), ANSWER)

    ended, logged = asyncio.run(story())

    assert [type(one) for one in ended] == [LogUnavailable] * 6
    assert isinstance(logged, Logged)
    # The first was being written when its time was over; of those behind it nothing is.
    assert count(engine) == (2, 2)
    assert log._n_waiting == 0
