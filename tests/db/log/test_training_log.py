"""The predictions of a training about its own rows: logged while it runs, and removed when nobody needs them."""

import json
import threading
import time

import numpy as np
import pytest
from sqlalchemy import String, cast, event, func, insert, select
from sqlmodel import col

from zap.db.engine import create_engine, write_transaction
from zap.db.log.training_log import log_train_predictions, remove_train_predictions, versions_to_prune
from zap.db.tables import InferenceInput, ModelVersion, Prediction, TrainingRun, utc_now
from zap.errors import TrainingCancelled
from zap.threads import PATIENCE_SECONDS

CLASSES = ["A", "B"]


def add_version(engine, status="archived", run_status="finished"):
    """A version of a run of its own; what its bytes are does not matter here."""
    with write_transaction(engine) as connection:
        run = {"kind": "train", "status": run_status, "started_at": utc_now()}
        run_id = connection.execute(insert(TrainingRun).returning(col(TrainingRun.run_id)), run).scalar_one()
        row = {
            "run_id": run_id, "status": status, "created_at": utc_now(), "artefact": b"x", "sha256": "x",
            "hyper_parameters": {}, "contract": {},
        }  # fmt: skip
        return connection.execute(insert(ModelVersion).returning(col(ModelVersion.model_version)), row).scalar_one()


def log_rows(engine, version, n=10, check=lambda _: None):
    probabilities = np.tile([0.25, 0.75], (n, 1))
    return log_train_predictions(engine, check, version, CLASSES, ["A"] * n, probabilities)


def logged(engine):
    """How many rows of trainings are there, by version."""
    of_training = col(Prediction.source) == "train"
    version = col(Prediction.model_version)
    with engine.connect() as connection:
        rows = connection.execute(select(version, func.count()).where(of_training).group_by(version))
        return {row[0]: row[1] for row in rows}


def add_answer(engine, version):
    """A request, and what was answered to it."""
    with write_transaction(engine) as connection:
        request = {"request_timestamp": utc_now(), "input_data_json": "{}"}
        added = insert(InferenceInput).returning(col(InferenceInput.input_id))
        number = connection.execute(added, request).scalar_one()
        row = {"input_id": number, "source": "inference", "predicted_class": "A", "model_version": version}
        connection.execute(insert(Prediction), row | {"prediction_timestamp": utc_now()})


def add_rows_of_before_zap(engine, n):
    with write_transaction(engine) as connection:
        row = {"source": "train", "predicted_class": "A", "actual_class": "B", "prediction_timestamp": utc_now()}
        connection.execute(insert(Prediction), [row] * n)


def test_it_works(engine):
    version = add_version(engine)

    assert list(log_rows(engine, version, 1_000)) == [400, 800, 1_000]

    with engine.connect() as connection:
        rows = connection.execute(select(Prediction.__table__)).mappings().all()
    assert len(rows) == 1_000
    assert {
        (row["source"], row["predicted_class"], row["actual_class"], row["model_version"], row["input_id"])
        for row in rows
    } == {("train", "B", "A", version, None)}
    assert rows[-1]["probabilities"] == {"A": 0.25, "B": 0.75}


def test_each_row_has_the_most_probable_class_and_its_own_actual_one(engine):
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    version = add_version(engine)

    assert list(log_train_predictions(engine, lambda _: None, version, CLASSES, ["A", "A", "B"], probabilities)) == [3]

    with engine.connect() as connection:
        rows = connection.execute(select(Prediction.__table__).order_by(col(Prediction.prediction_id))).mappings().all()
    assert [row["predicted_class"] for row in rows] == ["A", "B", "A"]
    assert [row["actual_class"] for row in rows] == ["A", "A", "B"]
    assert [list(row["probabilities"].values()) for row in rows] == probabilities.tolist()


def test_classes_of_any_name_and_probabilities_of_any_size_are_written_to_the_bit(engine):
    classes = ['50 % "fast"', "é\\n", "%r"]
    probabilities = np.array([[1.0, 0.0, 1e-300], [0.1, 1 / 3, 1e-7], [1e16, 0.5, 123456789.125]])
    version = add_version(engine)

    list(log_train_predictions(engine, lambda _: None, version, classes, classes, probabilities))

    with engine.connect() as connection:
        text = cast(col(Prediction.probabilities), String)
        found = connection.scalars(select(text).order_by(col(Prediction.prediction_id))).all()
    written = [json.loads(text, object_pairs_hook=list) for text in found]
    assert written == [list(zip(classes, row, strict=True)) for row in probabilities.tolist()]


def test_requests_are_committed_while_rows_are_logged(engine, database_url):
    # Each request finds the database free between two transactions of the training.
    version = add_version(engine)
    other = create_engine(database_url)
    over, waits = threading.Event(), []

    def answer():
        while not over.is_set():
            begin = time.monotonic()
            add_answer(other, version)
            waits.append(time.monotonic() - begin)

    answering = threading.Thread(target=answer)
    answering.start()
    list(log_rows(engine, version, 60_000))
    during = len(waits)
    over.set()
    answering.join()
    other.dispose()

    assert during >= 3
    assert max(waits) < PATIENCE_SECONDS
    assert logged(engine)[version] == 60_000


def test_the_check_is_made_in_each_transaction_and_ends_the_logging(engine):
    version, checked = add_version(engine), []

    def check(connection):
        checked.append(connection.scalar(select(func.count()).select_from(Prediction)))
        if len(checked) == 3:
            raise TrainingCancelled("it was cancelled")

    with pytest.raises(TrainingCancelled):
        list(log_rows(engine, version, 3_000, check))

    assert checked == [0, 400, 800]
    assert logged(engine) == {version: 800}


def test_what_the_check_writes_is_part_of_the_transaction_of_the_rows(engine):
    version = add_version(engine)

    def check(connection):
        connection.execute(insert(TrainingRun), {"kind": "train", "status": "failed", "started_at": utc_now()})
        if connection.scalar(select(func.count()).select_from(TrainingRun)) == 3:
            raise TrainingCancelled("it was cancelled")

    with pytest.raises(TrainingCancelled):
        list(log_rows(engine, version, 10_000, check))

    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(TrainingRun)) == 2


def test_the_rows_of_some_versions_are_removed_and_no_others(engine):
    versions = [add_version(engine) for _ in range(3)]
    for version, n in zip(versions, (2500, 10, 20), strict=True):
        list(log_rows(engine, version, n))
        add_answer(engine, version)
    add_rows_of_before_zap(engine, 5)

    assert remove_train_predictions(engine, versions[:2]) == 2510

    assert logged(engine) == {versions[2]: 20, None: 5}
    with engine.connect() as connection:
        answers = connection.scalars(
            select(col(Prediction.model_version)).where(col(Prediction.source) == "inference")
        ).all()
    assert sorted(answers) == versions


def test_rows_are_found_by_the_index(engine):
    # Without the index, each search for 400 rows would read a million rows.
    version, statements = add_version(engine), []
    list(log_rows(engine, version))

    @event.listens_for(engine, "before_cursor_execute")
    def _note(_connection, _cursor, statement, parameters, _context, _many):
        if "predictions" in statement:
            statements.append((statement, parameters))

    assert remove_train_predictions(engine, versions_to_prune(engine, 0)) == 10
    event.remove(engine, "before_cursor_execute", _note)

    assert len(statements) == 3
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # Of a few rows it reads all.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(explain + statement, parameters).fetchall()
            assert "ix_predictions_model_version" in str(plan), plan


def test_where_nothing_is_logged_nothing_is_removed(engine):
    assert remove_train_predictions(engine, []) == 0
    assert remove_train_predictions(engine, [add_version(engine), 99]) == 0


def test_those_of_older_versions_are_pruned(engine):
    versions = [add_version(engine) for _ in range(4)]
    for version in versions:
        list(log_rows(engine, version))

    assert versions_to_prune(engine, 4) == []
    assert versions_to_prune(engine, 2) == versions[:2]
    assert versions_to_prune(engine, 0) == versions

    assert remove_train_predictions(engine, versions_to_prune(engine, 1)) == 30
    assert versions_to_prune(engine, 1) == []


def test_those_of_the_version_in_production_and_of_a_running_training_are_kept(engine):
    serving = add_version(engine, "production")
    old = add_version(engine)
    in_training = add_version(engine, "candidate", "running")
    candidate = add_version(engine, "candidate")
    for version in (serving, old, in_training, candidate):
        list(log_rows(engine, version))

    assert versions_to_prune(engine, 0) == [old, candidate]
    assert versions_to_prune(engine, 1) == [old]


def test_the_newest_versions_count_whether_anything_is_logged_of_them_or_not(engine):
    old = add_version(engine)
    list(log_rows(engine, old))
    add_version(engine)

    assert versions_to_prune(engine, 1) == [old]


def test_what_is_left_of_a_version_that_is_gone_is_pruned(engine):
    list(log_rows(engine, 7))

    assert versions_to_prune(engine, 5) == [7]


def test_rows_of_before_zap_and_answers_are_nobody_to_prune(engine):
    add_rows_of_before_zap(engine, 3)
    version = add_version(engine)
    add_answer(engine, version)

    assert versions_to_prune(engine, 0) == []
    assert remove_train_predictions(engine, [version]) == 0
    assert logged(engine) == {None: 3}
