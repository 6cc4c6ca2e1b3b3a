"""Live quality: its parity with the evaluation of a training, and what the report says on which days."""

from datetime import datetime, timedelta

import pytest
from outcomes import applied, asked_about, last_sessions

from zap.db.versions.model_registry import read_version
from zap.flows.quality import Question, read_quality

LONG_AFTER = datetime.fromisoformat("2026-01-01T12:00:00")
DAY = timedelta(days=1)
PARITY = 1e-9
COMPARED = (
    "macro_f1", "accuracy", "log_loss", "per_class", "confusion_matrix", "classes", "baselines", "best_baseline",
    "best_baseline_by_f1", "log_loss_difference", "unseen_type_sessions", "by_earlier_sessions", "by_types_used",
)  # fmt: skip


def near(found, expected):
    """Assert that two documents have equal keys, and numbers that differ by 1e-9 at most."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            near(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, value in zip(found, expected, strict=True):
            near(one, value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0, abs=PARITY)
    else:
        assert found == expected


def report(engine, first, last, now=LONG_AFTER, **asked):
    return read_quality(engine, Question(first.date(), last.date(), **asked), now, DAY)


@pytest.fixture
def version(client):
    return read_version(client.app.state.engine, 1)


@pytest.fixture
def changes(client, trained, version):
    return asked_about(client, last_sessions(trained, version["test_samples"]))


def test_the_live_quality_of_the_test_sessions_is_the_evaluation_of_the_training(client, version, changes):
    engine = client.app.state.engine
    applied(engine, changes, portion=50)

    (found,) = report(engine, changes[0].after.asked_at, changes[-1].after.asked_at)["versions"]

    scores, evaluation = found["final"]["scores"], version["evaluation"]
    assert scores["sessions"] == version["test_samples"] > 100
    assert scores["weighted_f1"] == pytest.approx(evaluation["test_f1_score"], rel=0, abs=PARITY)
    near({name: scores[name] for name in COMPARED}, {name: evaluation[name] for name in COMPARED})
    near(scores["calibration"], evaluation["calibration"])
    assert len(scores["baselines"]) == 5
    for name, one in scores["baseline_differences"].items():
        expected = evaluation["baseline_differences"][name]
        near(one["log_loss_difference"], expected["log_loss_difference"])
        assert one["interval"] == pytest.approx(expected["interval"], abs=0.05)
    assert found["promise"]["weighted_f1"] == evaluation["test_f1_score"]
    assert found["provisional"] is found["expected"] is None
