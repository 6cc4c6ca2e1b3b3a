"""Live quality: its parity with the evaluation of a training, and what the report says on which days."""

import shutil
from datetime import datetime, timedelta

import pytest
from conftest import client_of
from outcomes import applied, asked_about, last_sessions

from zap.db.engine import create_engine
from zap.db.versions.model_registry import read_version
from zap.errors import NotFound
from zap.flows import version_quality
from zap.flows.quality import Question, read_quality
from zap.flows.remembered import Remembered
from zap.monitoring.quality_sums import QualitySums
from zap.settings import Settings

LONG_AFTER = datetime.fromisoformat("2027-01-01T12:00:00")
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


def test_the_live_quality_of_the_test_sessions_is_the_evaluation_of_the_training(client, trained):
    engine = client.app.state.engine
    version = read_version(engine, 1)
    changes = asked_about(client, last_sessions(trained, version["test_samples"]))
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


@pytest.fixture(scope="module")
def answers(_trained_sqlite, tmp_path_factory):
    """Return the logged answers to the last sessions of the history, at least one for each of the 40 drivers."""
    file = shutil.copy(_trained_sqlite / "zap.sqlite", tmp_path_factory.mktemp("asked") / "zap.sqlite")
    settings = Settings(database_url=f"sqlite:///{file}", models_dir=file.parent / "models")
    with client_of(settings) as client:
        return asked_about(client, last_sessions(settings, 150))


@pytest.fixture
def engine(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    yield engine
    engine.dispose()


def moved(answers, first, days, status="matched", kind="live"):
    """Let the answers be about the days from `first` on, with an outcome of this status."""
    begin = datetime.fromisoformat(first) + timedelta(hours=8)
    return [
        one._replace(
            prediction_id=number,
            after=one.after._replace(
                asked_at=begin + (number % days) * DAY,
                status=status,
                kind=kind,
                actual_class=one.after.actual_class if status in {"matched", "superseded"} else None,
            ),
        )
        for number, one in enumerate(answers)
    ]


@pytest.fixture
def july(engine, answers):
    """Store matched outcomes of all days of July 2026. At noon of 31 July, outcomes of 30 and 31 July may change."""
    applied(engine, moved(answers, "2026-07-01", 31))
    applied(engine, moved(answers[:5], "2026-07-02", 1, "superseded"))
    applied(engine, moved(answers[:7], "2026-07-02", 1, "waiting"))
    applied(engine, [one._replace(user_id=None) for one in moved(answers[:9], "2026-07-03", 1, "no_driver")])
    applied(engine, moved(answers[:3], "2026-01-03", 1, kind="backtest"))
    return engine


NOW = datetime.fromisoformat("2026-07-31T12:00:00")
FIRST, LAST = datetime.fromisoformat("2026-07-01"), datetime.fromisoformat("2026-07-31")


def test_final_and_provisional_days_are_apart(july):
    found = report(july, FIRST, LAST, now=NOW)
    (version,) = found["versions"]

    assert found["final_until"] == "2026-07-29"
    assert version["final"]["scores"]["sessions"] + version["provisional"]["scores"]["sessions"] == 150
    assert version["provisional"]["answers"]["answers"] == 8
    counted = version["final"]["answers"]
    assert counted == {
        "answers": 163, "matched": 142, "superseded": 5, "waiting": 7, "no_driver": 9, "with_driver": 154,
        "unscored": 0, "label_coverage": 147 / 163,
    }  # fmt: skip
    assert version["periods"] == []
    assert version["final"]["scores"]["interval_note"] is None
    assert version["provisional"]["scores"]["log_loss_difference_interval"] is None
    assert version["provisional"]["scores"]["interval_note"].startswith("too few drivers")
    assert report(july, FIRST, LAST, now=LONG_AFTER)["versions"][0]["provisional"] is None
    early = report(july, FIRST, LAST, now=FIRST + DAY)
    assert early["final_until"] is None
    assert early["versions"][0]["final"] is None


def test_what_is_expected_before_the_outcomes_come(july):
    (version,) = report(july, FIRST, LAST, now=NOW)["versions"]
    expected = version["expected"]

    assert expected["answers"] == 8
    assert expected["corrected_by_sessions"] == 142
    assert 0.5 < expected["expected_accuracy"] < expected["mean_confidence"] + 0.3
    # Earlier days than the first correct it, too.
    assert report(july, LAST, LAST, now=NOW)["versions"][0]["expected"]["corrected_by_sessions"] == 142
    assert "concept drift" in report(july, FIRST, LAST, now=NOW)["blind_spot"]


def test_overconfident_answers_are_expected_to_be_right_as_often_as_earlier_ones(engine, answers):
    """Let the earlier answers be right in half of the cases, with any probability."""
    wrong = {
        one.predicted_class: other.predicted_class
        for one in answers
        for other in answers
        if one.predicted_class != other.predicted_class
    }
    changes = [
        one._replace(
            after=one.after._replace(actual_class=one.predicted_class if number % 2 else wrong[one.predicted_class])
        )
        for number, one in enumerate(moved(answers, "2026-07-01", 20))
    ]
    applied(engine, changes)
    applied(engine, moved(answers[:40], "2026-07-30", 1, "waiting"))

    (version,) = report(engine, FIRST, LAST, now=NOW)["versions"]

    assert version["expected"]["mean_confidence"] > 0.7
    assert version["expected"]["expected_accuracy"] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("by", "begins"),
    [
        ("day", [f"2026-07-{day:02}" for day in range(1, 32)]),
        # 29 July is the last final day, a Wednesday.
        ("week", ["2026-07-01", "2026-07-06", "2026-07-13", "2026-07-20", "2026-07-27", "2026-07-30"]),
        ("month", ["2026-07-01", "2026-07-30"]),
    ],
)
def test_periods_add_up_to_the_days(july, by, begins):
    (version,) = report(july, FIRST, LAST, now=NOW, by=by)["versions"]
    periods = version["periods"]

    assert [one["from"] for one in periods] == begins
    assert [one["final"] for one in periods] == [one["to"] <= "2026-07-29" for one in periods]
    assert sum(one["scores"]["sessions"] for one in periods) == 150
    assert sum(one["answers"]["answers"] for one in periods if one["final"]) == 163
    mean = sum(one["scores"]["log_loss"] * one["scores"]["sessions"] for one in periods if one["final"]) / 142
    assert mean == pytest.approx(version["final"]["scores"]["log_loss"])
    if by == "month":
        month, whole = periods[0]["scores"], version["final"]["scores"]
        # The interval is drawn from all groups at once, and that of the whole from the groups with drivers.
        assert month.pop("log_loss_difference_interval") == pytest.approx(
            whole["log_loss_difference_interval"], abs=0.05
        )
        assert month == {name: whole[name] for name in month}


def test_backtests_are_shown_on_their_own(july):
    (version,) = report(july, FIRST - 200 * DAY, LAST, now=NOW, kind="backtest")["versions"]

    assert version["final"]["answers"]["answers"] == version["final"]["scores"]["sessions"] == 3
    assert report(july, FIRST, LAST, now=NOW, kind="backtest")["versions"] == []


def test_a_day_without_a_scored_outcome_has_no_scores(engine, answers):
    applied(engine, moved(answers[:4], "2026-07-02", 1, "waiting"))

    (version,) = report(engine, FIRST, LAST, now=LONG_AFTER, by="day")["versions"]

    assert version["final"]["scores"] is None
    assert version["periods"][0]["scores"] is None
    assert version["final"]["answers"]["label_coverage"] == 0


@pytest.mark.parametrize("by", ["day", "week", "month"])
def test_what_is_remembered_is_never_out_of_date(july, answers, by, monkeypatch):
    """Change one outcome of a final day: the next report equals the report of a process that remembers nothing."""
    asked = {"now": NOW, "by": by, "guessing": True}
    before = report(july, FIRST, LAST, **asked)
    assert report(july, FIRST, LAST, **asked) == before

    one = moved(answers, "2026-07-01", 31)[40]
    types = before["versions"][0]["final"]["scores"]["classes"]
    other = next(name for name in types if name != one.after.actual_class)
    applied(july, [one._replace(before=one.after, after=one.after._replace(actual_class=other))])
    after = report(july, FIRST, LAST, **asked)
    for name in ("_totals", "_main_scores", "_all_scores"):
        monkeypatch.setattr(version_quality, name, Remembered(1))

    assert after == report(july, FIRST, LAST, **asked)
    assert after != before


def test_a_second_report_decodes_no_day(july, monkeypatch):
    first = report(july, FIRST, LAST, now=NOW, by="week")
    monkeypatch.setattr(QualitySums, "from_bytes", None)

    assert report(july, FIRST, LAST, now=NOW, by="week") == first


def test_the_main_scores_stand_beside_guessing(july):
    asked = {"now": NOW, "by": "month", "guessing": True}
    (version,) = report(july, FIRST, LAST, detailed=1, **asked)["versions"]
    (brief,) = report(july, FIRST, LAST, detailed=0, **asked)["versions"]
    full, month = version["final"]["scores"], version["periods"][0]["scores"]

    best = full["baselines"][full["best_baseline_by_f1"]]["weighted_f1"]
    assert full["guessing"]["weighted_f1"] == pytest.approx(best)
    assert full["guessing"]["log_loss"] == full["baselines"][full["best_baseline"]]["log_loss"]
    mean = sum(one["f1"] * one["support"] for one in full["guessing"]["per_class"].values()) / full["sessions"]
    assert mean == pytest.approx(best)
    assert "baselines" not in brief["final"]["scores"]
    assert brief["final"]["scores"]["guessing"]["log_loss"] == full["guessing"]["log_loss"]
    # The jackknife of the plots and the bootstrap agree.
    assert month["weighted_f1_interval"] == pytest.approx(full["weighted_f1_interval"], abs=0.03)
    low, high = month["weighted_f1_interval"]
    assert low < month["weighted_f1"] < high


def test_the_remembered_results_are_bounded():
    remembered = Remembered(2)
    for key in "abac":
        remembered.keep(key, key.upper())

    assert [remembered.find(key) for key in "abc"] == ["A", None, "C"]


def test_an_unknown_version_is_not_found(engine):
    with pytest.raises(NotFound):
        report(engine, FIRST, LAST, model_version=9)
