"""The rows of live quality: exact after corrections and removals, on each engine."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest
from histories import raw_sample
from outcomes import applied
from sqlalchemy import insert, select, update

from zap.db.engine import write_transaction
from zap.db.monitoring.quality_days import read_days
from zap.db.monitoring_tables import QualityDay
from zap.db.tables import ModelVersion, TrainingRun, utc_now
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import sha256
from zap.ml.history import clean_history
from zap.ml.sample import sample_history
from zap.ml.training import fit, split_by_time
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState
from zap.monitoring.quality_sums import QualitySums

NOON = datetime.fromisoformat("2026-03-02T12:00:00")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def split():
    return split_by_time(clean_history(raw_sample(sample_history(seed=3, drivers=25, months=2))))


@pytest.fixture(scope="module")
def model(split):
    return fit(split, {"n_estimators": 2}, n_jobs=1)


@pytest.fixture
def versions(engine, model):
    """Store two versions, of which the second version is damaged."""
    artefact = model.to_bytes()
    row = {"run_id": 1, "status": "candidate", "created_at": utc_now(), "sha256": sha256(artefact)}
    row |= {"hyper_parameters": {}, "contract": {}, "evaluation": {"pooled_exponents": [0.4, 0.3, 0.2, 0.1]}}
    with write_transaction(engine) as connection:
        connection.execute(insert(TrainingRun), {"run_id": 1, "status": "failed", "started_at": utc_now()})
        connection.execute(insert(ModelVersion), row | {"model_version": 1, "artefact": artefact})
        connection.execute(insert(ModelVersion), row | {"model_version": 2, "artefact": b"damaged", "sha256": "0"})
    return engine


@pytest.fixture(scope="module")
def answers(split, model):
    """Return answers to the test sessions, as the log has them."""
    past = split.test_past
    matrix = model.matrix(split.test, past)
    assert matrix.shape[1] == len(MATRIX_COLUMNS) + past.shape[1]
    probabilities, _ = model.score_parts(split.test, past)
    classes = model.classes_.tolist()
    return [
        OutcomeChange(
            number, 1, user, classes[said.argmax()], dict(zip(classes, said.tolist(), strict=True)), row.tobytes(),
            None, OutcomeState(NOON + number * timedelta(hours=1), "live", "matched", used),
        )
        for number, (user, said, row, used) in enumerate(
            zip(split.test["user_id"], probabilities, np.ascontiguousarray(matrix, "<f8"),
                split.test["charger_type"], strict=True)
        )
    ]  # fmt: skip


def rows(engine):
    """Return the stored rows by version, day and kind."""
    with engine.connect() as connection:
        found = connection.execute(select(QualityDay.__table__).order_by(QualityDay.day)).all()
    return {(row.model_version, row.day, row.kind): (row.answers, row.sums) for row in found}


def forgotten(changes):
    return [change._replace(before=change.after, after=None) for change in changes]


def test_it_works(versions, answers):
    """Add outcomes in portions, correct an outcome, and remove an outcome of a later day."""
    corrected = answers[0]._replace(
        before=answers[0].after, after=answers[0].after._replace(actual_class="Tesla", status="matched")
    )

    applied(versions, answers, portion=7)
    applied(versions, [corrected, *forgotten(answers[30:])])

    days = list(read_days(versions, "live", date(2026, 1, 1), date(2026, 12, 31)))
    assert [(one.model_version, one.key.day) for one in days] == [(1, NOON.date()), (1, (NOON + DAY).date())]
    assert [one.counted.answers["matched"] for one in days] == [12, 18]
    assert [one.counted.sums.sessions for one in days] == [12, 18]
    assert list(days[0].counted.sums.unseen) == ["Tesla"]
    assert len(list(read_days(versions, "live", NOON.date(), NOON.date(), model_version=1))) == 1
    assert list(read_days(versions, "backtest", NOON.date(), NOON.date())) == []
    assert list(read_days(versions, "live", NOON.date(), NOON.date(), model_version=2)) == []

    stored = rows(versions)
    remaining = [answers[0]._replace(after=corrected.after), *answers[1:30]]
    applied(versions, forgotten(remaining), portion=3)
    assert rows(versions) == {}
    applied(versions, remaining[::-1], portion=4)
    assert rows(versions) == stored


def test_a_version_that_cannot_be_loaded_or_found_has_its_answers_counted(versions, answers):
    for number in (2, 3):
        applied(versions, [one._replace(model_version=number) for one in answers[:5]])
    applied(versions, [one._replace(model_version=None) for one in answers[:5]])

    assert rows(versions) == {
        (number, datetime.combine(NOON.date(), datetime.min.time()), "live"): (
            {"matched": 5, "with_driver": 5, "unscored": 5},
            None,
        )
        for number in (2, 3)
    }


def test_a_day_that_was_begun_without_the_version_stays_without_scores(versions, answers, model):
    """Check that only added outcomes are taken away after the version can be loaded again."""
    damaged = [one._replace(model_version=2) for one in answers]
    applied(versions, damaged[:5])
    repaired = {"artefact": model.to_bytes(), "sha256": sha256(model.to_bytes())}
    with write_transaction(versions) as connection:
        connection.execute(update(ModelVersion).where(ModelVersion.model_version == 2), repaired)

    applied(versions, [*forgotten(damaged[:2]), *damaged[5:30]])

    (first, first_sums), (second, second_sums) = rows(versions).values()
    assert first == {"matched": 10, "with_driver": 10, "unscored": 10}
    assert first_sums is None
    assert second == {"matched": 18, "with_driver": 18}
    assert QualitySums.from_bytes(second_sums).sessions == 18


def test_the_baselines_are_those_of_the_version(versions, answers):
    with write_transaction(versions) as connection:
        connection.execute(update(ModelVersion).where(ModelVersion.model_version == 1), {"evaluation": None})

    applied(versions, answers[:3])

    (day,) = read_days(versions, "live", NOON.date(), NOON.date())
    assert "pooled_shares" not in day.counted.sums.layout.predictors
    assert "driver_share" in day.counted.sums.layout.predictors
