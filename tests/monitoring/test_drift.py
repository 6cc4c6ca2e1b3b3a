"""Drift: false notices in years without a change, and notices of changes."""

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from simulations.drift import Service, false_notices, first_come_notices, found_within, mean_e, usual_alarms

from zap.monitoring.drift import LEAST_EFFECT, THRESHOLD, DriftDetector, threshold_of
from zap.monitoring.drift_evidence import _log_e, effect_of, log_evidence
from zap.monitoring.drift_state import MOST_JUDGED, DriftState, Week
from zap.monitoring.reference import MISSING, FeatureReference, Reference, places, reference_of, spread_of

SMALL = Service(drivers=400, active=100, training=12, features=24)


def _reference(rows=2000, weeks=10, seed=1, **more):
    random = np.random.default_rng(seed)
    when = np.sort(random.integers(weeks, size=rows))
    columns = {
        "distance_driven_km": random.normal(100, 20, rows),
        "user_type": random.choice(["Commuter", "Traveler"], rows).tolist(),
        **{name: values(random, rows) for name, values in more.items()},
    }
    return reference_of(columns, random.integers(rows // 4, size=rows), when)


def _detector(reference, **options):
    return DriftDetector(reference, DriftState.beginning(0), **options)


def _send(detector, week, drivers, of_driver):
    found = [detector.observe(f"driver {number}", week, 0, of_driver(number)) for number in range(drivers)]
    return [notice for notice in found if notice]


def _quiet(random):
    return lambda _: {
        "distance_driven_km": random.normal(100, 20),
        "user_type": str(random.choice(["Commuter", "Traveler"])),
    }


def test_years_without_change_have_no_notice():
    # At the promised rate, more than two notices in 8 years have a probability of 1 %.
    assert sum(map(len, false_notices(SMALL, 8))) <= 2


def test_the_mean_evidence_of_a_week_without_change_is_at_most_one():
    assert np.mean(false_notices(SMALL, 4, ask=mean_e)) <= 1


def test_weeks_that_differ_by_themselves_give_no_notice():
    assert sum(map(len, false_notices(replace(SMALL, shared=0.2, training=26), 4))) <= 1


def test_without_the_spread_of_the_training_weeks_there_would_be_notices(monkeypatch):
    monkeypatch.setattr("zap.monitoring.reference.spread_of", lambda _: 0.0)

    assert sum(map(len, false_notices(replace(SMALL, shared=0.3, training=26), 4))) > 8


def test_the_simulation_finds_a_fixed_threshold_and_a_careless_sample_false():
    assert all(len(one) > 26 for one in false_notices(SMALL, 2, ask=usual_alarms))
    assert all(len(one) > 26 for one in false_notices(SMALL, 2, ask=first_come_notices))


def test_a_shift_is_found_within_two_weeks():
    assert found_within(Service(weeks=2, shift=0.6, training=12), 10) >= 0.9


@pytest.mark.parametrize("n", [1, 4, 12])
def test_the_expectation_of_e_is_one_if_the_reference_is_all_that_is_known(n):
    # All counts of n drivers in three bins, with their probabilities under a Dirichlet distribution of the shares.
    reference = [5.0, 2.0, 0.0]

    def probability(counts, prior):
        total = sum(prior)
        log = math.lgamma(n + 1) + math.lgamma(total) - math.lgamma(n + total)
        log += sum(math.lgamma(k + a) - math.lgamma(a) - math.lgamma(k + 1) for k, a in zip(counts, prior, strict=True))
        return math.exp(log)

    prior = [count + 0.5 for count in reference]
    every = [counts for counts in product(range(n + 1), repeat=3) if sum(counts) == n]
    expected = sum(probability(one, prior) * math.exp(_log_e(one, reference, 0.0, 1, 1)) for one in every)

    assert sum(probability(one, prior) for one in every) == pytest.approx(1)
    assert expected == pytest.approx(1)


def test_the_threshold_follows_from_the_rate():
    assert pytest.approx(1040) == THRESHOLD
    # Half of the rate for other notices.
    assert threshold_of(0.025) == pytest.approx(2080)


def test_a_detector_by_rows_finds_a_change_and_names_it():
    random = np.random.default_rng(3)
    detector = _detector(_reference())
    quiet = _quiet(random)

    assert _send(detector, 0, 400, lambda _: {"user_type": "changed, but the week is not whole"}) == []
    for week in (1, 2, 3):
        assert _send(detector, week, 400, quiet) == []
    assert _send(detector, 4, 400, lambda number: {**quiet(number), "distance_driven_km": random.normal(62, 12)}) == []
    (notice,) = _send(detector, 5, 400, quiet)

    (shift,) = notice.shifts
    assert (notice.week, shift.feature, shift.drivers) == (4, "distance_driven_km", 400)
    assert notice.evidence >= THRESHOLD
    assert shift.effect > LEAST_EFFECT
    assert sum(shift.found.values()) == pytest.approx(1)
    assert sum(shift.reference.values()) == pytest.approx(1)
    assert "distance_driven_km: up to " in notice.in_words()
    assert "season" in notice.in_words()


def test_a_driver_counts_once_a_week():
    random = np.random.default_rng(3)
    detector = _detector(_reference())
    quiet = _quiet(random)
    for week in range(1, 4):
        _send(detector, week, 60, quiet)
        for _ in range(400):
            detector.observe("driver 7", week, 0, {"distance_driven_km": 1.0})

    assert detector.end_week(9) is None
    assert sum(detector.state.past[-1].counts["distance_driven_km"]) == 60


def test_a_row_that_comes_too_late_is_not_counted():
    detector = _detector(_reference())
    detector.observe("a", 5, 0, {})
    detector.observe("b", 4, 0, {})

    assert detector.state.sample.week == 5
    assert len(detector.state.sample.rows) == 1


def test_a_notice_stands_and_is_given_again_only_after_it_was_over():
    reference = _reference(user_age=lambda random, rows: random.normal(0, 1, rows))
    detector = _detector(reference)
    usual = {feature.name: [*(round(80 * one / sum(feature.counts)) for one in feature.counts), 0]
             for feature in reference.features}  # fmt: skip
    changed = {**usual, "distance_driven_km": [300, 50, 20, 20, 10, 0]}

    def add(week, counts):
        return detector.add_week(Week(week, list(range(400)), counts))

    assert [bool(add(week, changed)) for week in range(1, 6)] == [True, False, False, False, False]
    assert list(detector.state.raised) == ["distance_driven_km"]
    # A season ends; and after the notice was over, another begins.
    assert [bool(add(week, usual)) for week in range(6, 12)] == [False] * 6
    assert detector.state.raised == {}
    assert add(12, changed).shifts[0].feature == "distance_driven_km"


def test_a_version_that_serves_again_begins_anew():
    detector = _detector(_reference())
    quiet = _quiet(np.random.default_rng(3))
    for week in range(1, 3):
        _send(detector, week, 300, quiet)
    _send(detector, 3, 300, lambda _: {"user_type": "New"})
    assert _send(detector, 4, 300, quiet)
    kept = dict(detector.state.sums), list(detector.state.past)
    # A version that serves all the time goes on.
    detector.state.serves_since(0)
    assert detector.state.raised

    detector.state.serves_since(9)
    assert detector.state.raised == {}
    # Neither the week in which it stopped counts, nor the week in which it serves again.
    assert _send(detector, 4, 300, lambda _: {"user_type": "New"}) == []
    assert _send(detector, 9, 300, lambda _: {"user_type": "New"}) == []
    assert _send(detector, 10, 300, quiet) == []
    assert (detector.state.sums, detector.state.past) == kept
    assert [notice.week for notice in _send(detector, 11, 300, lambda _: {"user_type": "New"})] == []
    assert [notice.week for notice in _send(detector, 12, 300, quiet)] == [11]


def test_a_small_change_of_many_drivers_is_no_notice():
    reference = _reference(rows=40_000)
    usual = {feature.name: [*(10 * round(one) for one in feature.counts), 0] for feature in reference.features}
    counts = usual["distance_driven_km"]
    moved = counts[0] // 4
    usual["distance_driven_km"] = [counts[0] + moved, *counts[1:-2], counts[-2] - moved, 0]
    detector = _detector(reference)
    drivers = list(range(sum(counts)))

    assert log_evidence(reference.features[0], [Week(1, drivers, usual)]) > 20
    assert detector.add_week(Week(1, drivers, usual)) is None


def test_values_that_go_missing_are_found_where_the_values_move_with_the_season():
    random = np.random.default_rng(2)
    rows, weeks = 6000, 40
    when = np.sort(random.integers(weeks, size=rows))
    temperature = 10 + 12 * np.sin(when / 6) + random.normal(0, 2, rows)
    reference = reference_of({"temperature_c": temperature}, random.integers(1500, size=rows), when)
    (feature,) = reference.features
    drivers = list(range(150))

    # All drivers of a week in one or two bins are usual, a week without values is not.
    assert feature.spread > 0.1
    assert _detector(reference).add_week(Week(50, drivers, {"temperature_c": [120, 30, 0, 0, 0, 0]})) is None
    (shift,) = _detector(reference).add_week(Week(50, drivers, {"temperature_c": [10, 20, 10, 10, 10, 90]})).shifts
    assert shift.found["missing"] == pytest.approx(0.6)


def test_the_state_and_the_reference_survive_a_restart_as_json():
    random = np.random.default_rng(3)
    reference = _reference(
        vehicle_model=lambda random, rows: random.choice(["Leaf", None], rows, p=[0.02, 0.98]).tolist()
    )
    one = _detector(reference)
    quiet = _quiet(random)
    rows = [(week, number, quiet(number)) for week in range(3) for number in range(300)]
    rows += [(week, number, {"user_type": "New"}) for week in (3, 4, 5) for number in range(300)]
    other, notices = _detector(reference), ([], [])
    for count, (week, number, values) in enumerate(rows):
        if count % 97 == 0:
            plain = json.loads(json.dumps([other.reference.to_plain(), other.state.to_plain()]))
            other = DriftDetector(Reference.from_plain(plain[0]), DriftState.from_plain(plain[1]))
            assert other.reference == reference
        for detector, found in zip((one, other), notices, strict=True):
            found.append(detector.observe(str(number), week, 0, values))

    assert notices[0] == notices[1]
    assert [notice.week for notice in notices[0] if notice] == [3]
    assert one.state.to_plain() == other.state.to_plain()


def test_the_evidence_of_judged_weeks_is_kept_for_two_years():
    detector = _detector(_reference())
    counts = {feature.name: [30] * len(feature.counts) + [0] for feature in detector.reference.features}
    for week in range(MOST_JUDGED + 20):
        detector.add_week(Week(week, list(range(week, week + 150)), counts))
    judged = detector.state.judged

    assert [one.week for one in judged] == list(range(20, MOST_JUDGED + 20))
    assert judged[-1].sums == detector.state.sums
    assert (judged[-1].drivers, judged[-1].counts) == (150, counts)


def test_a_notice_uses_its_evidence_up_but_people_still_see_it():
    detector = _detector(_reference())
    counts = {feature.name: [500, *[0] * (len(feature.counts) - 1), 0] for feature in detector.reference.features}
    notice = detector.add_week(Week(7, list(range(500)), counts))
    judged = detector.state.judged[-1]

    assert notice is not None
    assert detector.state.sums == {}
    assert sum(judged.sums.values()) / len(detector.reference.features) == pytest.approx(notice.evidence)


def test_a_state_that_an_older_zap_stored_has_no_judged_weeks():
    plain = _detector(_reference()).state.to_plain()
    del plain["judged"]

    assert DriftState.from_plain(plain).judged == []


def test_bins_have_equal_shares_and_places_agree_with_place():
    reference = _reference(whole=lambda random, rows: random.poisson(1.0, rows).astype(float),
                           gaps=lambda random, rows: np.where(random.random(rows) < 0.1, np.nan, random.random(rows)),
                           constant=lambda _, rows: np.full(rows, 3.0))  # fmt: skip
    number, category, whole, gaps, constant = reference.features

    assert np.array(number.counts) / sum(number.counts) == pytest.approx([0.2] * 5, abs=0.01)
    assert category.values == ("Commuter", "Traveler")
    assert len(whole.counts) < 5
    assert min(whole.counts) > 0
    assert gaps.missing[0] / sum(gaps.missing) == pytest.approx(0.1, abs=0.02)
    assert len(constant.counts) == 1
    values = np.array([np.nan, -1, 0, 1, 2, 80, 100, 1e9])
    for feature in (number, whole, gaps, constant):
        assert places(feature, values).tolist() == [feature.place(value) for value in values]
        assert len(feature.labels) == len(feature.counts) + 1
    assert [category.place(value) for value in ("Commuter", "Unheard", None, math.nan)] == [0, 2, MISSING, MISSING]


def test_rare_values_share_a_bin():
    reference = _reference(
        model=lambda random, rows: random.choice(["a", "b", "c"], rows, p=[0.5, 0.48, 0.02]).tolist()
    )

    assert reference.features[-1].values == ("a", "b")
    assert reference.features[-1].counts[-1] > 0


def test_too_few_drivers_have_no_reference():
    assert reference_of({"x": np.zeros(100)}, np.arange(100) % 40, np.zeros(100)) is None
    assert reference_of({"x": np.zeros(0)}, np.zeros(0, int), np.zeros(0, int)) is None


def test_the_reference_counts_a_random_row_of_a_driver_once_a_week():
    # Each driver has two rows in each week. The weeks at the ends are not whole and do not count.
    weeks, drivers = np.repeat(np.arange(5), 200), np.tile(np.arange(100), 10)
    values = np.tile(np.repeat(["first", "second"], 100), 5).astype(object)
    values[(weeks == 0) | (weeks == 4)] = "outside"
    reference = reference_of({"x": values.tolist()}, drivers, weeks)

    (feature,) = reference.features
    assert feature.values == ("first", "second")
    assert sum(feature.counts) == pytest.approx(100)
    # Of 300 rows about half are first rows, with a standard deviation of 3 %.
    assert 38 < feature.counts[0] < 62


def test_weeks_of_one_distribution_have_no_spread_and_others_have():
    random = np.random.default_rng(6)
    shares = np.full(5, 0.2)
    same = random.multinomial(300, shares, 26)
    differ = np.array([random.multinomial(300, one) for one in random.dirichlet(100 * shares, 26)])

    assert spread_of(same) == 0.0
    # A Dirichlet distribution with the sum 100 has the variance p(1 - p) / 101 in each of 4 directions.
    assert 3 / 101 < spread_of(differ) < 10 / 101


def test_the_effect_of_no_change_is_about_zero():
    random = np.random.default_rng(7)
    feature = FeatureReference("x", (1.0, 2.0, 3.0, 4.0), None, (200.0,) * 5, (0.0, 1000.0), 0.0, 0.0, 10)
    effects = [effect_of(feature, [*random.multinomial(50, random.dirichlet([200] * 5)), 0]) for _ in range(2000)]

    assert np.mean(effects) == pytest.approx(0, abs=0.03)
