"""The predictions of a training about its own rows: logged in short transactions, and removed in such."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, delete, select
from sqlmodel import col

from zap.db.engine import background_transactions, copy_rows
from zap.db.tables import OF_TRAINING, ModelVersion, Prediction, Stamp, TrainingRun, utc_now

# Rows of one transaction that removes, and of one that logs: few enough that a request for a prediction never waits
# long for its turn to commit.
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
    """Log a prediction for each training row in short transactions; yields how many rows are in after each.

    Args:
        engine: the database.
        check: called in each transaction; raises where nothing may be written any more.
        model_version: the version that predicted.
        classes: its charger types, the columns of `probabilities`.
        actual: the types that the drivers used, one a row; of a million rows an array of few texts.
        probabilities: of shape (len(actual), len(classes)).
    """
    transaction = background_transactions(engine)
    for start in range(0, len(actual), _ROWS):
        rows = slice(start, start + _ROWS)
        some = probabilities[rows]
        now = Stamp().process_bind_param(utc_now(), engine.dialect)
        # Made while nothing is locked.
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
    """For each row a JSON object, as the log of requests has it."""
    return [_json(dict(zip(classes, row, strict=True))).decode() for row in probabilities.tolist()]


def _insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows of _LOGGED, past SQLAlchemy, which takes many times as long as the database does."""
    if connection.dialect.name == "sqlite":
        names, marks = ", ".join(_LOGGED), ", ".join("?" * len(_LOGGED))
        connection.exec_driver_sql(f"INSERT INTO predictions ({names}) VALUES ({marks})", rows)  # noqa: S608
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        copy_rows(cursor, "predictions", _LOGGED, rows)


def remove_train_predictions(engine: Engine, versions: Sequence[int]) -> int:
    """Remove what the trainings of these versions logged; how many rows."""
    removed = 0
    transaction = background_transactions(engine)
    for version in versions:
        of_version = OF_TRAINING & (col(Prediction.model_version) == version)
        some = select(col(Prediction.prediction_id)).where(of_version).limit(_ROWS)
        while True:
            with transaction() as connection:
                found = connection.execute(delete(Prediction).where(col(Prediction.prediction_id).in_(some))).rowcount
            removed += found
            if found == 0:
                break
    return removed


def versions_to_prune(engine: Engine, keep_versions: int) -> list[int]:
    """The versions whose training rows are logged, but for the newest so many and the one in production.

    That of a training that is running is left alone too.
    """
    logged = select(col(Prediction.model_version)).where(OF_TRAINING).distinct()
    running = select(col(TrainingRun.run_id)).where(col(TrainingRun.status) == "running")
    needed = (col(ModelVersion.status) == "production") | col(ModelVersion.run_id).in_(running)
    newest = select(col(ModelVersion.model_version)).order_by(col(ModelVersion.model_version).desc())
    with engine.connect() as connection:
        # In this order: what begins to be logged in between is not among them.
        found = connection.scalars(logged).all()
        kept = {
            *connection.scalars(newest.limit(keep_versions)),
            *connection.scalars(select(col(ModelVersion.model_version)).where(needed)),
        }
    # Those of before zap have no version, and are not a training's of zap.
    return sorted(version for version in found if version is not None and version not in kept)
