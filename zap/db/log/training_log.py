"""The predictions of a training for its training rows, logged and removed in short transactions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, delete, select
from sqlmodel import col

from zap.db.engine import background_transactions, copy_rows
from zap.db.monitoring_tables import Trial
from zap.db.tables import OF_TRAINING, ModelVersion, Prediction, Stamp, TrainingRun, utc_now

# Rows of one transaction that logs or removes predictions: few enough that requests do not wait long for their commit.
_ROWS = 400
_LOGGED = ("prediction_timestamp", "source", "predicted_class", "actual_class", "model_version", "probabilities")
_json = msgspec.json.Encoder().encode


def log_train_predictions(  # noqa: PLR0913, PLR0917
    engine: Engine,
    check: Callable[[Connection], None],
    model_version: int,
    classes: Sequence[str],
    actual: Sequence[str] | np.ndarray,
    probabilities: np.ndarray,
) -> Iterator[int]:
    """Log a prediction for each training row, in short transactions. Yield how many rows are logged after each.

    Args:
        engine: on the database.
        check: called in each transaction; raises if the run has ended and may write nothing more.
        model_version: the version that predicted.
        classes: the charger types of the version, which are the columns of `probabilities`.
        actual: the types that the drivers used, one for each row.
        probabilities: of shape (len(actual), len(classes)).
    """
    transaction = background_transactions(engine)
    for start in range(0, len(actual), _ROWS):
        rows = slice(start, start + _ROWS)
        some = probabilities[rows]
        now = Stamp().process_bind_param(utc_now(), engine.dialect)
        # Computed before the transaction, which locks the database.
        values = [
            (now, "train", classes[best], used, model_version, document)
            for best, used, document in zip(
                some.argmax(axis=1).tolist(), actual[rows], _documents(classes, some), strict=True
            )
        ]
        with transaction() as connection:
            check(connection)
            _insert(connection, values)
        yield start + len(values)


def _documents(classes: Sequence[str], probabilities: np.ndarray) -> list[str]:
    """Return the probabilities of each row as JSON, in the form that the log of requests has."""
    return [_json(dict(zip(classes, row, strict=True))).decode() for row in probabilities.tolist()]


def _insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of _LOGGED without SQLAlchemy, which would take many times as long as the database."""
    if connection.dialect.name == "sqlite":
        names, marks = ", ".join(_LOGGED), ", ".join("?" * len(_LOGGED))
        connection.exec_driver_sql(f"INSERT INTO predictions ({names}) VALUES ({marks})", rows)  # noqa: S608
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        copy_rows(cursor, "predictions", _LOGGED, rows)


def remove_train_predictions(engine: Engine, versions: Sequence[int]) -> int:
    """Remove the predictions that the trainings of these versions logged. Return how many rows were removed."""
    return sum(some for version in versions for some in removed_train_predictions(engine, version))


def removed_train_predictions(
    engine: Engine,
    version: int,
    check: Callable[[Connection], object] = lambda _: None,
    note: Callable[[Connection, int], object] = lambda _, __: None,
) -> Iterator[int]:
    """Remove the predictions that the training of a version logged. Yield how many each short transaction removed.

    Args:
        engine: on the database.
        version: the version.
        check: called in each transaction; raises if this process may remove nothing now.
        note: called in each transaction with the number of removed rows.
    """
    transaction = background_transactions(engine)
    of_version = OF_TRAINING & (col(Prediction.model_version) == version)
    some = select(col(Prediction.prediction_id)).where(of_version).limit(_ROWS)
    found = _ROWS
    while found == _ROWS:
        with transaction() as connection:
            check(connection)
            found = connection.execute(delete(Prediction).where(col(Prediction.prediction_id).in_(some))).rowcount
            note(connection, found)
        yield found


def versions_to_prune(engine: Engine, keep_versions: int) -> list[int]:
    """Return the versions with logged training predictions, without the versions to keep.

    The newest `keep_versions` versions are kept, and so are the version in production, versions on trial, and the
    version of a running training.
    """
    running = select(col(TrainingRun.run_id)).where(col(TrainingRun.status) == "running")
    on_trial = select(col(Trial.model_version)).where(col(Trial.status) == "running")
    number = col(ModelVersion.model_version)
    needed = (col(ModelVersion.status) == "production") | col(ModelVersion.run_id).in_(running) | number.in_(on_trial)
    newest = select(number).order_by(number.desc())
    with engine.connect() as connection:
        # The logged versions are read first, so that a training that starts in between is not among them.
        found = list(_logged_versions(connection))
        kept = {
            *connection.scalars(newest.limit(keep_versions)),
            *connection.scalars(select(number).where(needed)),
        }
    return [version for version in found if version not in kept]


def _logged_versions(connection: Connection) -> Iterator[int]:
    """Yield the versions with logged training predictions, in order, with one search of the index for each.

    Rows that are older than zap have no version, and do not come from zap's trainings.
    """
    version = col(Prediction.model_version)
    first = select(version).where(OF_TRAINING, version.is_not(None)).order_by(version).limit(1)
    found = connection.scalar(first)
    while found is not None:
        yield found
        found = connection.scalar(first.where(version > found))
