"""Changes of outcomes, scored into the sums of their days: exact, in any order, and as in an evaluation."""

from dataclasses import replace
from datetime import datetime, timedelta
from zlib import crc32

import numpy as np
import pytest
from histories import raw_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.ml.baselines import BASELINES, SHARE_COLUMNS
from zap.ml.evaluation import evaluate, rows_to_score
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import clean_history
from zap.ml.sample import sample_history
from zap.ml.training import fit, split_by_time
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState
from zap.monitoring.outcome_scoring import Day, OutcomeScorer, count_only, key_of
from zap.monitoring.quality_figures import Figures
from zap.monitoring.quality_sums import GROUPS, QualitySums, Totals

EXPONENTS = [0.4, 0.3, 0.2, 0.1]
NOON = datetime.fromisoformat("2026-03-02T12:00:00")


@pytest.fixture(scope="module")
def fitted():
    history = clean_history(raw_sample(sample_history(seed=3, drivers=8, months=2)))
    return fit(split_by_time(history), {"n_estimators": 2}, n_jobs=1).fitted()


@pytest.fixture(scope="module")
def scorer(fitted):
    return OutcomeScorer(fitted, EXPONENTS)


@pytest.fixture(scope="module")
def answers(fitted):
    return answers_of(fitted, 300)


@pytest.fixture(scope="module")
def answer(answers):
    """Return the function that gives one of the answers, because Hypothesis shows the arguments of a test."""
    return lambda place: answers[place]


def answers_of(fitted, n, seed=1):
    """Return answers of a version to requests of 90 drivers, without an outcome yet. Shares add up to 1."""
    random, k = np.random.default_rng(seed), len(fitted.classes)
    rows = random.normal(size=(n, len(fitted.columns)))
    for column in SHARE_COLUMNS:
        names = [f"{column}[{name}]" for name in fitted.classes]
        if set(names) <= set(fitted.columns):
            rows[:, [fitted.columns.index(name) for name in names]] = random.dirichlet(np.ones(k), size=n)
    for column, most in (("sessions", 25), ("types_used", 4)):
        if column in fitted.columns:
            rows[:, fitted.columns.index(column)] = random.integers(0, most, size=n)
    probabilities = random.dirichlet(np.ones(k), size=n)
    return [
        OutcomeChange(
            prediction_id=number,
            model_version=1,
            user_id=f"driver {number % 90}",
            predicted_class=fitted.classes[said.argmax()],
            probabilities=dict(zip(fitted.classes, said.tolist(), strict=True)),
            features=row.astype("<f8").tobytes(),
            before=None,
            after=None,
        )
        for number, (row, said) in enumerate(zip(rows, probabilities, strict=True))
    ]


def matched(used, at=NOON):
    return OutcomeState(at, "live", "matched", used)


def added(scorer, changes, portion=None):
    """Add changes in portions. Return the days that have counts."""
    days, portion = {}, portion or max(1, len(changes))
    for start in range(0, len(changes), portion):
        some = changes[start : start + portion]
        for change in some:
            for state in filter(None, (change.before, change.after)):
                days.setdefault(key_of(state), Day({}, QualitySums.empty(scorer.layout)))
        scorer.add(some, days)
    return {key: day for key, day in days.items() if not day.is_nothing()}


def as_stored(days):
    return {key: (day.answers, day.sums.to_bytes()) for key, day in days.items()}


def total(days):
    totals = None
    for day in days.values():
        totals = totals or Totals(day.sums.layout)
        totals.add(day.sums)
    return totals


STATES = st.none() | st.builds(
    OutcomeState,
    st.sampled_from([NOON, NOON + timedelta(hours=11), NOON + timedelta(days=1)]),
    st.sampled_from(["live", "backtest"]),
    st.sampled_from(["matched", "matched", "superseded", "waiting", "no_driver"]),
    st.sampled_from(["Level 1", "Level 2", "level 2", "DC Fast Charger", "Rapid 50 kW", "Tesla", None]),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 7), STATES), max_size=25), st.integers(1, 25), st.permutations(range(8)))
def test_corrected_and_removed_outcomes_leave_the_sums_of_the_present_outcomes(scorer, answer, steps, portion, order):
    # One answer is of an older zap without rows, and one names no driver.
    known = [answer(0)._replace(features=None), answer(1)._replace(user_id=None), *map(answer, range(2, 8))]
    changes, present = [], dict.fromkeys(range(8))
    for place, after in steps:
        changes.append(known[place]._replace(before=present[place], after=after))
        present[place] = after
    last = [known[place]._replace(after=present[place]) for place in order if present[place]]

    incremental, anew = added(scorer, changes, portion=portion), added(scorer, last)

    assert as_stored(incremental) == as_stored(anew)
    assert as_stored(anew) == as_stored(added(scorer, last, portion=1))
    statuses = [state.status for state in present.values() if state]
    assert sum(day.answers.get("matched", 0) for day in incremental.values()) == statuses.count("matched")


def test_what_is_counted_of_each_answer(scorer, answers):
    states = [
        matched("Level 2"),
        matched("Tesla"),
        matched(None),
        OutcomeState(NOON, "live", "superseded", "Level 1"),
        OutcomeState(NOON, "live", "waiting"),
        OutcomeState(NOON + timedelta(days=1), "backtest", "no_driver"),
    ]
    changes = [answer._replace(after=state) for answer, state in zip(answers, states, strict=False)]
    changes[-1] = changes[-1]._replace(user_id=None)
    changes.append(answers[7]._replace(features=b"short", after=matched("Level 1")))

    days = added(scorer, changes)

    live, backtest = days[NOON.date(), "live"], days[NOON.date() + timedelta(days=1), "backtest"]
    assert live.answers == {"matched": 4, "superseded": 1, "waiting": 1, "with_driver": 6, "unscored": 2}
    assert backtest.answers == {"no_driver": 1}
    assert live.sums.sessions == 2
    assert list(live.sums.unseen) == ["Tesla"]
    bins = live.sums.array("bins")
    assert bins[:, 0].sum() == 6
    assert bins[:, 2].sum() == 2
    said = [max(change.probabilities.values()) for change in changes if change.after.kind == "live"]
    assert bins[:, 1].sum() / 2**36 == pytest.approx(sum(said), abs=1e-9)


@pytest.mark.parametrize("seen_only", [True, False])
def test_the_figures_are_those_of_an_evaluation(fitted, scorer, answers, seen_only):
    """Compare the figures, also with types that the version does not know. Another spelling is the known type."""
    random = np.random.default_rng(2)
    names = [*fitted.classes, *([] if seen_only else ["AC 7 kW", "Tesla"])]
    used = [names[code] for code in random.integers(len(names), size=len(answers))]
    spelled = [name.upper() if random.random() < 0.3 else name for name in used]
    changes = [answer._replace(after=matched(name)) for answer, name in zip(answers, used, strict=True)]
    reported = [answer._replace(after=matched(name)) for answer, name in zip(answers, spelled, strict=True)]
    rows = np.stack([np.frombuffer(one.features) for one in answers])
    counts = np.array(list(fitted.population.counts.values())).sum(axis=0)
    scored = rows_to_score(
        list(fitted.classes),
        used,
        starts=np.full(len(answers), np.datetime64(NOON, "s")),
        drivers=np.array([crc32(one.user_id.encode()) % GROUPS for one in answers]),
        past=rows[:, len(MATRIX_COLUMNS) :],
        mix=counts / counts.sum(),
        exponents=np.array(EXPONENTS),
        trained_on=70,
        probabilities=np.array([list(one.probabilities.values()) for one in answers]),
        parts={},
    )
    expected = evaluate(scored)

    found = Figures(total(added(scorer, reported if seen_only else changes, portion=7)), 70).full()

    assert found["sessions"] == len(answers)
    assert found["weighted_f1"] == pytest.approx(expected["test_f1_score"], abs=1e-9)
    assert found["weighted_f1_interval"] == pytest.approx(expected["test_f1_interval"], abs=1e-9)
    for name in ("macro_f1", "accuracy", "log_loss", "log_loss_difference", "effective_drivers"):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name
    for name in ("classes", "confusion_matrix", "best_baseline", "best_baseline_by_f1", "unseen_type_sessions"):
        assert found[name] == expected[name], name
    assert found["per_class"] == {name: pytest.approx(one, abs=1e-9) for name, one in expected["per_class"].items()}
    assert found["baselines"] == {name: pytest.approx(one, abs=1e-9) for name, one in expected["baselines"].items()}
    for name, one in expected["baseline_differences"].items():
        for end in ("interval", "interval_of_all"):
            assert found["baseline_differences"][name][end] == pytest.approx(one[end], abs=1e-9)
    for group in ("by_earlier_sessions", "by_types_used"):
        for name, some in expected[group].items():
            assert found[group][name]["baselines"] == {
                one: pytest.approx(scores, abs=1e-9) for one, scores in some["baselines"].items()
            }
            assert found[group][name]["log_loss"] == pytest.approx(some["log_loss"], abs=1e-9)
            assert found[group][name]["sessions"] == some["sessions"]


def test_baselines_that_an_older_version_does_not_allow_are_left_out_by_name(fitted, scorer):
    columns = tuple(name for name in fitted.columns if not name.startswith(("share_recent[", "types_used")))
    older = replace(fitted, columns=columns)
    without = OutcomeScorer(older, EXPONENTS)

    assert scorer.layout.predictors == ("model", *BASELINES)
    assert OutcomeScorer(fitted, None).layout.predictors == ("model", *BASELINES[:-1])
    assert without.layout.predictors == ("model", "prior", "driver_share", "driver_share_time_of_day")

    found = Figures(
        total(added(without, [one._replace(after=matched("Level 2")) for one in answers_of(older, 50)])), 70
    ).full()

    assert list(found["baselines"]) == ["prior", "driver_share", "driver_share_time_of_day"]
    assert found["by_types_used"] == {"none": None, "one": None, "several": None}
    assert sum(one["sessions"] for one in found["by_earlier_sessions"].values() if one) == 50


def test_of_a_version_that_cannot_be_loaded_answers_are_counted(answers):
    days = {(NOON.date(), "live"): Day()}
    count_only([answers[0]._replace(after=matched("Level 2"))], days)

    assert days[NOON.date(), "live"].answers == {"matched": 1, "with_driver": 1, "unscored": 1}

    count_only([answers[0]._replace(before=matched("Level 2"))], days)

    assert days[NOON.date(), "live"].is_nothing()
