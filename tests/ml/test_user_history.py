"""UserHistory: the past of a driver as known at a moment, without later information."""

import math
import pickle
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import SESSION, raw
from hypothesis import given, settings
from hypothesis import strategies as st
from present import present_before

from zap.ml import user_history
from zap.ml.driver_columns import DRIVER_COLUMNS, HALF_LIFE_DAYS, PRIOR_WEIGHT, DriverColumns, PastSession
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.history import clean_history, past_sessions
from zap.ml.history_columns import driver_column, history_columns, past_columns, present_places, type_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.history_walk import walk
from zap.ml.inference import Predictor
from zap.ml.model import ChargerTypeModel
from zap.ml.population_history import PopulationHistory
from zap.ml.user_history import UserHistory

HOUR, DAY = 3600, 86_400
EPOCH = datetime.fromisoformat("1970-01-01")
NAMES = ("A", "B", "C", "D", "E", "F")
EVEN = [0.5, 0.5]


def at(text):
    """Return the seconds on the wall clock since 1970-01-01."""
    return int((datetime.fromisoformat(text) - EPOCH).total_seconds())


def remembered(sessions, n_types=2):
    history = UserHistory(n_types)
    for session in sessions:
        history.observe(session)
    return history


def known(sessions, moment, mix=EVEN):
    """Return the features by name after the given sessions."""
    types = NAMES[: len(mix)]
    values = remembered(sessions, len(mix)).features(moment, mix)
    return dict(zip(past_columns(types), values, strict=True))


def to_bits(values):
    return np.array(values, dtype=np.float64).tobytes()


# The features in the plainest way: loops over all earlier sessions.


def reference(sessions, moment, mix):
    codes = range(len(mix))
    time = EPOCH + timedelta(seconds=moment)
    earlier = [one for one in sessions if one.start < moment]
    ended = sorted((one for one in earlier if one.end is not None and one.end <= moment), key=lambda one: one.end)
    starts = [EPOCH + timedelta(seconds=one.start) for one in earlier]
    in_bucket = [one for one, start in zip(earlier, starts, strict=True) if start.hour // 6 == time.hour // 6]
    in_day_kind = [
        one for one, start in zip(earlier, starts, strict=True) if (start.weekday() > 4) == (time.weekday() > 4)
    ]

    def counts(some):
        return [sum(one.type_code == code for one in some) for code in codes]

    def smoothed(weights, prior):
        total = sum(weights) + PRIOR_WEIGHT
        return [(weight + PRIOR_WEIGHT * share) / total for weight, share in zip(weights, prior, strict=True)]

    def mean(values):
        there = [value for value in values if not math.isnan(value)]
        return sum(there) / len(there) if there else math.nan

    def last(values):
        return ([math.nan] + [value for value in values if not math.isnan(value)])[-1]

    def largest(values):
        return max((value for value in values if not math.isnan(value)), default=math.nan)

    def nearness(start):
        away = min((start.hour - time.hour) % 24, (time.hour - start.hour) % 24)
        of_day_kind = 1 if (start.weekday() > 4) == (time.weekday() > 4) else 0.5
        return of_day_kind * math.exp(-(away**2) / 8) if away <= 4 else 0

    near = [
        sum(nearness(start) for one, start in zip(earlier, starts, strict=True) if one.type_code == code)
        for code in codes
    ]
    fading = [
        sum(0.5 ** ((moment - one.start) / DAY / HALF_LIFE_DAYS) for one in earlier if one.type_code == code)
        for code in codes
    ]
    share = smoothed(counts(earlier), mix)
    newest_first = [float(one.type_code) for one in reversed(earlier)]
    hours_ago = [(moment - one.start) / HOUR for one in reversed(earlier)]
    return {
        "share": share,
        "share_time_of_day": smoothed(counts(in_bucket), share),
        "share_day_kind": smoothed(counts(in_day_kind), share),
        "share_near": smoothed(near, share),
        "share_recent": smoothed(fading, mix),
        "mean_state_of_charge": [mean(one.state_of_charge for one in earlier if one.type_code == k) for k in codes],
        "mean_distance": [mean(one.distance_km for one in earlier if one.type_code == k) for k in codes],
        "sessions": len(earlier),
        "sessions_time_of_day": sum(one.type_code >= 0 for one in in_bucket),
        "types_used": len({one.type_code for one in earlier} - {-1}),
        "sessions_of_type": counts(earlier),
        "days_since_type": [
            min(((moment - one.start) / DAY for one in earlier if one.type_code == code), default=math.nan)
            for code in codes
        ],
        "last_type": (newest_first + [math.nan] * 3)[0],
        "second_last_type": (newest_first + [math.nan] * 3)[1],
        "third_last_type": (newest_first + [math.nan] * 3)[2],
        "same_type_in_a_row": len(list(takewhile(lambda code: code == newest_first[0], newest_first))),
        "hours_since_last": (hours_ago + [math.nan] * 2)[0],
        "hours_since_second_last": (hours_ago + [math.nan] * 2)[1],
        "days_since_first": hours_ago[-1] / 24 if hours_ago else math.nan,
        "sessions_in_7_days": sum(hours <= 7 * 24 for hours in hours_ago),
        "mean_energy": mean(one.energy_kwh for one in ended),
        "last_energy": last(one.energy_kwh for one in ended),
        "largest_energy": largest(one.energy_kwh for one in ended),
        "mean_duration": mean(one.duration_hours for one in ended),
        "last_duration": last(one.duration_hours for one in ended),
        "largest_power": largest(one.energy_kwh / one.duration_hours for one in ended if one.duration_hours),
    }


# Starts are on or next to a coarse grid, so that ties, midnights and sessions of exactly seven days ago are frequent.
moments = st.builds(lambda step, second: step * 6 * HOUR + second, st.integers(-60, 60), st.sampled_from([0, 0, 1, -1]))
numbers = st.just(math.nan) | st.floats(0, 500)


@st.composite
def pasts(draw, most=20):
    """Draw a number of types, sessions in order of start, and a mix."""
    n_types = draw(st.integers(2, 6))
    weights = draw(st.lists(st.integers(1, 9), min_size=n_types, max_size=n_types))
    size = draw(st.integers(0, most))
    sessions = draw(
        st.lists(
            st.builds(
                lambda start, code, lasted, *values: PastSession(
                    start, code, None if lasted is None else start + lasted, *values
                ),
                moments,
                st.integers(-1, n_types - 1),
                st.none() | st.integers(0, 12).map(lambda steps: steps * 3 * HOUR) | st.integers(0, 40 * DAY),
                numbers,
                st.sampled_from([math.nan, 0.0]) | st.floats(0.01, 900),
                numbers,
                numbers,
            ),
            min_size=size,
            max_size=size,
        )
    )
    return sorted(sessions, key=lambda one: one.start), [weight / sum(weights) for weight in weights]


def before(sessions, moment):
    return [one for one in sessions if one.start < moment]


def test_it_works():
    monday = at("2024-01-01 08:00:00")
    sessions = [
        PastSession(monday, 0, monday + 2 * HOUR, 20.0, 2.0, 30.0, 100.0),
        PastSession(monday + DAY, 1, monday + DAY + HOUR, 30.0, 1.0, 50.0, math.nan),
        PastSession(monday + 2 * DAY, 1, monday + 9 * DAY, 99.0, 168.0, 60.0, 80.0),
    ]

    features = known(sessions, monday + 2 * DAY + 12 * HOUR)

    assert features["share[A]"] == (1 + 0.5) / 4
    assert features["share[B]"] == (2 + 0.5) / 4
    # No session has started in an evening, so the share equals that of all hours.
    assert features["sessions_time_of_day"] == 0
    assert features["share_time_of_day[B]"] == features["share[B]"]
    assert features["share_day_kind[B]"] == (2 + features["share[B]"]) / 4
    assert features["share_recent[B]"] > features["share[B]"] - 0.01
    assert (features["mean_state_of_charge[A]"], features["mean_state_of_charge[B]"]) == (30.0, 55.0)
    assert (features["mean_distance[A]"], features["mean_distance[B]"]) == (100.0, 80.0)
    assert features["sessions"] == 3
    assert features["types_used"] == 2
    assert (features["sessions_of_type[A]"], features["sessions_of_type[B]"]) == (1, 2)
    assert (features["days_since_type[A]"], features["days_since_type[B]"]) == (2.5, 0.5)
    assert [features[f"{name}last_type"] for name in ("", "second_", "third_")] == [1, 1, 0]
    assert features["same_type_in_a_row"] == 2
    assert (features["hours_since_last"], features["hours_since_second_last"]) == (12, 36)
    assert features["days_since_first"] == 2.5
    assert features["sessions_in_7_days"] == 3
    # The third session has not ended.
    assert (features["mean_energy"], features["last_energy"], features["largest_energy"]) == (25.0, 30.0, 30.0)
    assert (features["mean_duration"], features["last_duration"], features["largest_power"]) == (1.5, 1.0, 30.0)


@settings(max_examples=EXAMPLES * 2)
@given(pasts(), moments)
def test_the_features_equal_those_of_plain_loops(past, moment):
    sessions, mix = past
    types = NAMES[: len(mix)]

    found = known(before(sessions, moment), moment, mix)

    expected = {}
    for name, value in reference(sessions, moment, mix).items():
        values = (
            {f"{name}[{code}]": one for code, one in zip(types, value, strict=True)}
            if isinstance(value, list)
            else {name: value}
        )
        expected |= values
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def test_without_a_past_the_shares_are_the_mix_and_all_else_is_missing():
    features = known([], at("2024-01-01 08:00:00"), [0.2, 0.3, 0.5])

    for name in ("share", "share_time_of_day", "share_day_kind", "share_near", "share_recent"):
        assert [features.pop(f"{name}[{code}]") for code in "ABC"] == [0.2, 0.3, 0.5]
    assert [features.pop(f"sessions_of_type[{code}]") for code in "ABC"] == [0, 0, 0]
    counts = ("sessions", "sessions_time_of_day", "types_used", "same_type_in_a_row", "sessions_in_7_days")
    assert [features.pop(name) for name in counts] == [0] * 5
    assert all(math.isnan(value) for value in features.values())


def test_the_closer_the_hour_and_the_kind_of_day_the_more_a_session_counts():
    night = PastSession(at("2024-01-02 23:59:59"), 0)
    shares = [
        known([night], at(moment))["share_near[A]"]
        for moment in (
            "2024-01-03 23:00:00",
            # The hours of a day are a circle.
            "2024-01-04 00:00:00",
            "2024-01-03 21:00:00",
            "2024-01-06 23:00:00",
            "2024-01-03 12:00:00",
        )
    ]

    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == 5
    assert shares[-1] == known([night], at("2024-01-03 12:00:00"))["share[A]"]


# One definition of a column.


class LongestPause(DriverColumns):
    """The longest time between two starts, and for each type the time since its last session, in hours."""

    by_type = ("hours_since_type",)
    of_driver = ("longest_pause",)

    def __init__(self, n_types):
        self.last = [math.nan] * n_types
        self.newest = self.longest = math.nan

    def observe(self, session):
        pause = (session.start - self.newest) / HOUR
        self.longest = pause if not pause <= self.longest else self.longest
        self.newest = session.start
        if session.type_code >= 0:
            self.last[session.type_code] = session.start

    def values(self, at, mix):  # noqa: ARG002
        return [*[(at - last) / HOUR for last in self.last], self.longest]


@pytest.fixture
def with_longest_pause(monkeypatch):
    """Define the columns in front of the last ones."""

    def forget():
        user_history.no_past.cache_clear()
        user_history._without_past.cache_clear()

    for module in ("user_history", "history_columns"):
        with_it = (*DRIVER_COLUMNS[:-1], LongestPause, DRIVER_COLUMNS[-1])
        monkeypatch.setattr(f"zap.ml.{module}.DRIVER_COLUMNS", with_it)
    forget()
    yield
    forget()


@pytest.mark.usefixtures("with_longest_pause")
def test_a_column_that_is_defined_once_is_known_by_name_in_training_and_in_serving():
    start = at("2024-03-04 08:00:00")
    hours, types = [0, 5, 5, 12, 13], ["A", "B", "B", "B", "A"]
    rows = [row(place, start + hour * HOUR, charger_type=types[place]) for place, hour in enumerate(hours)]
    past = from_rows([*rows, row(5, start, user_id="new")])
    columns = history_columns(past.types)
    names = ["hours_since_type[A]", "hours_since_type[B]", "longest_pause"]
    place = driver_column("longest_pause", 2)

    assert columns[place - 2 : place + 2] == [*names, "mean_energy"]
    assert columns[type_columns("hours_since_type", 2)] == names[:2]
    mine = past.matrix[(past.frame["user_id"] == "u1").to_numpy()]
    assert mine[-1, place - 2 : place + 1].tolist() == [13, 1, 7]
    # Before the first session, and for a driver without a past.
    assert np.isnan(mine[0, place - 2 : place + 1]).all()
    assert np.isnan(past.matrix[(past.frame["user_id"] == "new").to_numpy(), place]).all()

    frame = past.frame.assign(user_type="Commuter", vehicle_model="Leaf")
    model = ChargerTypeModel(n_estimators=2, n_jobs=1).fit(frame, frame["charger_type"], past=past.matrix)
    history = remembered(past_sessions(frame[frame["user_id"] == "u1"].head(4), past.types)).copy()
    request = {feature.name: None for feature in FEATURES} | {
        "charging_start_time": EPOCH + timedelta(hours=13, seconds=start)
    }
    present = present_before(frame, past.types, model.population_, start + 13 * HOUR)
    served = Predictor(model.fitted(), 1).answer(request, history, present).features

    assert set(names) < set(model.columns_)
    assert served[8 * len(MATRIX_COLUMNS) :] == mine[-1].tobytes()


@pytest.mark.parametrize("columns", DRIVER_COLUMNS)
@pytest.mark.parametrize("n_types", [1, 3])
def test_the_values_of_a_column_fit_its_names_and_without_a_past_do_not_depend_on_the_moment(columns, n_types):
    state, mix = columns(n_types), [1 / n_types] * n_types

    values = [state.values(moment, mix) for moment in (-(10**11), 0, at("2024-03-04 08:00:00"))]

    assert len(values[0]) == n_types * len(columns.by_type) + len(columns.of_driver)
    assert len({to_bits(one) for one in values}) == 1
    assert set(columns.type_codes) <= set(columns.of_driver)


# Later information.


@settings(deadline=None)
@given(pasts(), pasts(), moments)
def test_later_sessions_change_nothing(past, other, moment):
    # Sessions that start at the moment or later may be added, changed or removed.
    sessions, mix = past
    population = PopulationHistory({}, len(mix))
    earlier = before(sessions, moment)
    probe = PastSession(moment, 0)
    later = [one for one in sessions if one.start >= moment]
    others = [one._replace(type_code=min(one.type_code, len(mix) - 1)) for one in other[0] if one.start >= moment]

    expected = [to_bits(row) for row in walk([*earlier, probe], population, len(mix))]

    for some in (later, others, [*reversed(later)]):
        rows = list(walk([*earlier, probe, *sorted(some, key=lambda one: one.start)], population, len(mix)))
        assert [to_bits(row) for row in rows[: len(expected)]] == expected


@settings(deadline=None)
@given(pasts(), moments, st.integers(1, 10**7))
def test_the_energy_of_a_session_that_has_not_ended_does_not_matter(past, moment, later):
    sessions, mix = past
    earlier = before(sessions, moment)
    running = [one.end is None or one.end > moment for one in earlier]

    def with_running(**changed):
        return [one._replace(**changed) if still else one for one, still in zip(earlier, running, strict=True)]

    expected = to_bits(remembered(earlier, len(mix)).features(moment, mix))

    for changed in (
        {"end": None},
        {"end": moment + later},
        {"energy_kwh": 999.0, "duration_hours": 0.5},
        {"end": None, "energy_kwh": math.nan, "duration_hours": math.nan},
    ):
        assert to_bits(remembered(with_running(**changed), len(mix)).features(moment, mix)) == expected


def test_a_session_ends_at_its_end_not_a_second_before():
    start = at("2024-01-01 08:00:00")
    session = PastSession(start, 0, start + HOUR, 20.0, 1.0)

    assert math.isnan(known([session], start + HOUR - 1)["last_energy"])
    assert known([session], start + HOUR)["last_energy"] == 20.0


def test_the_last_energy_is_that_of_the_session_that_ended_last():
    start = at("2024-01-01 08:00:00")
    long = PastSession(start, 0, start + 9 * HOUR, 50.0, 9.0)
    short = PastSession(start + HOUR, 1, start + 2 * HOUR, 5.0, 1.0)

    assert known([long, short], start + 8 * HOUR)["last_energy"] == 5.0
    assert known([long, short], start + 9 * HOUR)["last_energy"] == 50.0
    # The result is equal if another session is observed after both have ended.
    assert known([long, short, PastSession(start + DAY, 0)], start + 2 * DAY)["last_energy"] == 50.0


def test_the_energy_of_long_ago_counts_too():
    start = at("2024-01-01 08:00:00")
    sessions = [PastSession(start + day * DAY, 0, start + day * DAY + HOUR, float(day), 2.0) for day in range(100)]

    features = known(sessions, start + 100 * DAY)

    assert (features["mean_energy"], features["largest_energy"], features["last_energy"]) == (49.5, 99.0, 99.0)
    assert (features["mean_duration"], features["largest_power"]) == (2.0, 49.5)


@pytest.mark.parametrize("still_plugged_in", [1, 19, 20, 21, 50])
def test_the_ends_of_many_open_sessions_do_not_matter_yet(still_plugged_in):
    # One user_id may stand for a whole fleet. Serving does not know an end that a later training knows.
    start = at("2024-01-01 08:00:00")
    first = PastSession(start, 0, start + 5 * HOUR, 20.0, 5.0)
    others = [
        PastSession(start + minute * 60, 1, start + 9 * DAY, 70.0, 216.0) for minute in range(1, still_plugged_in)
    ]

    in_training = known([first, *others], start + 6 * HOUR)
    in_serving = known([first, *(one._replace(end=None) for one in others)], start + 6 * HOUR)

    assert to_bits(list(in_training.values())) == to_bits(list(in_serving.values()))
    if still_plugged_in <= 20:
        assert in_training["last_energy"] == 20.0


def test_sessions_that_start_together_do_not_see_each_other():
    start = at("2024-01-01 08:00:00")
    sessions = [PastSession(start - DAY, 0), *(PastSession(start, code, start, 9.0, 0.0) for code in (1, 1, 0))]
    sessions.append(PastSession(start + 1, 0))

    rows = list(walk(sessions, PopulationHistory({}, 2), 2))

    assert [to_bits(row) for row in rows[1:4]] == [to_bits(rows[1])] * 3
    assert [row[driver_column("sessions", 2)] for row in rows] == [0, 1, 1, 1, 4]


@settings(deadline=None)
@given(pasts())
def test_walk_equals_observing_the_sessions_that_started_strictly_earlier(past):
    sessions, mix = past
    population = PopulationHistory({0: [3] * len(mix), 2: list(range(len(mix)))}, len(mix))

    rows = list(walk(sessions, population, len(mix)))

    assert len(rows) == len(sessions)
    for row, one in zip(rows, sessions, strict=True):
        fresh = remembered(before(sessions, one.start), len(mix))
        assert to_bits(row) == to_bits(fresh.features(one.start, population.mix(one.start)))


@settings(deadline=None)
@given(pasts(), st.lists(st.integers(1, 30 * DAY), min_size=1, max_size=4))
def test_features_does_not_change_the_state(past, waits):
    sessions, mix = past
    asked, silent = UserHistory(len(mix)), UserHistory(len(mix))
    end = sessions[-1].start if sessions else 0

    for one in sessions:
        asked.observe(one)
        silent.observe(one)
        for wait in waits:
            asked.features(one.start + wait, mix)

    # Earlier and later moments may be asked about in any order.
    for moment in [end + wait for wait in (*waits, *reversed(waits))]:
        assert to_bits(asked.features(moment, mix)) == to_bits(silent.features(moment, mix))
    assert pickle.dumps(asked) == pickle.dumps(silent)


def test_a_session_earlier_than_the_newest_is_refused():
    history = remembered([PastSession(1000, 0)])

    with pytest.raises(ValueError, match="999 was observed after one that started at 1000"):
        history.observe(PastSession(999, 0))

    assert history.sessions == 1
    history.observe(PastSession(1000, 1))
    assert (history.sessions, history.newest) == (2, 1000)


@pytest.mark.parametrize("moment", [999, 1000])
def test_a_moment_that_is_not_after_the_newest_session_is_refused(moment):
    history = remembered([PastSession(1000, 0)])

    with pytest.raises(ValueError, match="started at 1000 is observed already"):
        history.features(moment, EVEN)
    assert history.features(1001, EVEN)[driver_column("sessions", 2)] == 1


# Types, clock and calendar.


def test_a_type_that_is_not_learned_from_counts_as_a_session_of_no_known_type():
    start = at("2024-01-01 08:00:00")
    sessions = [PastSession(start + hour, -1, state_of_charge=50.0) for hour in range(2)]

    features = known([PastSession(start - 1, 1), *sessions], start + DAY)

    assert (features["sessions"], features["types_used"]) == (3, 1)
    assert (features["share[A]"], features["share[B]"]) == (0.25, 0.75)
    assert (features["last_type"], features["third_last_type"], features["same_type_in_a_row"]) == (-1, 1, 2)
    assert math.isnan(features["mean_state_of_charge[A]"])
    assert math.isnan(features["mean_state_of_charge[B]"])


@pytest.mark.parametrize(
    ("past", "now", "same_time_of_day", "same_day_kind"),
    [
        ("2024-03-04 00:00:00", "2024-03-05 05:59:59", True, True),
        ("2024-03-04 06:00:00", "2024-03-05 05:59:59", False, True),
        ("2024-03-04 17:59:59", "2024-03-05 18:00:00", False, True),
        ("2024-03-04 23:59:59", "2024-03-05 18:00:00", True, True),
        ("2024-03-04 23:59:59", "2024-03-05 00:00:00", False, True),
        # A Friday and a Saturday; a Sunday and a Monday.
        ("2024-03-01 23:59:59", "2024-03-02 00:00:00", False, False),
        ("2024-03-01 23:59:59", "2024-03-08 23:59:59", True, True),
        ("2024-03-02 00:00:00", "2024-03-03 23:59:59", False, True),
        ("2024-03-03 23:59:59", "2024-03-04 00:00:00", False, False),
        # Before 1970: 1969-12-27 was a Saturday.
        ("1969-12-26 23:59:59", "1969-12-27 23:59:59", True, False),
        ("1969-12-27 00:00:00", "1969-12-28 05:59:59", True, True),
        ("1969-12-31 23:59:59", "1970-01-01 00:00:00", False, True),
        ("0001-01-01 05:00:00", "1969-12-31 05:00:00", True, True),
    ],
)
def test_the_clock_and_the_calendar_are_those_of_the_wall(past, now, same_time_of_day, same_day_kind):
    features = known([PastSession(at(past), 0)], at(now))

    assert features["share[A]"] == 0.75
    assert features["sessions_time_of_day"] == same_time_of_day
    assert features["share_time_of_day[A]"] == (0.875 if same_time_of_day else 0.75)
    assert features["share_day_kind[A]"] == (0.875 if same_day_kind else 0.75)
    assert features["days_since_first"] == (at(now) - at(past)) / DAY


def test_after_the_half_life_a_session_counts_half():
    start = at("2024-01-01 08:00:00")

    features = known([PastSession(start, 0)], start + 21 * DAY)

    assert HALF_LIFE_DAYS == 21
    assert features["share_recent[A]"] == pytest.approx((0.5 + 0.5) / 1.5)


def test_a_session_of_seven_days_ago_is_the_last_that_counts():
    start = at("2024-01-01 08:00:00")
    sessions = [PastSession(start, 0), PastSession(start + 1, 0)]

    assert known(sessions, start + 7 * DAY)["sessions_in_7_days"] == 2
    assert known(sessions, start + 7 * DAY + 1)["sessions_in_7_days"] == 1
    assert known(sessions, start + 7 * DAY + 2)["sessions_in_7_days"] == 0


@pytest.mark.parametrize("n_types", [2, 3, 6])
def test_the_places_of_the_columns_are_right(n_types):
    types = NAMES[:n_types]
    columns = past_columns(types)

    assert columns == history_columns(types)[: len(columns)]
    assert len(columns) == len(set(columns)) == len(UserHistory(n_types).features(0, [1 / n_types] * n_types))
    for name in ("share", "share_time_of_day", "share_day_kind", "share_recent", "mean_distance"):
        assert columns[type_columns(name, n_types)] == [f"{name}[{code}]" for code in types]
    for name in ("sessions", "types_used", "last_type", "largest_power"):
        assert columns[driver_column(name, n_types)] == name


def test_the_state_stays_small():
    def after(sessions):
        """Return the history of a driver who plugs in every five minutes, for 300 days each time."""
        starts = range(0, sessions * 300, 300)
        return remembered(
            [PastSession(start, start // 300 % 3, start + 300 * DAY, 7.5, 7200.0, 40.0, 9.0) for start in starts], 3
        )

    few, many = after(1_000), after(10_000)

    assert (few.sessions, many.sessions) == (1_000, 10_000)
    # Larger numbers take a few more bytes.
    assert len(pickle.dumps(many)) < len(pickle.dumps(few)) + 100
    assert len(pickle.dumps(many)) < 5_000


# The mix of all drivers.


def test_the_mix_is_that_of_the_days_before():
    day = at("2024-03-04 00:00:00") // DAY
    population = PopulationHistory({day: [1, 2], day + 3: [4, 0]}, 2)

    # One session of each type is always added.
    assert population.mix((day - 50) * DAY) == [1 / 2, 1 / 2]
    assert population.mix(day * DAY + DAY - 1) == [1 / 2, 1 / 2]
    assert population.mix((day + 1) * DAY) == [2 / 5, 3 / 5]
    assert population.mix((day + 3) * DAY + DAY - 1) == [2 / 5, 3 / 5]
    assert population.mix((day + 4) * DAY) == population.mix((day + 999) * DAY) == [6 / 9, 3 / 9]


def test_the_mix_before_1970_is_by_days_too():
    population = PopulationHistory({-1: [1, 0]}, 2)

    assert population.mix(-1) == [1 / 2, 1 / 2]
    assert population.mix(0) == [2 / 3, 1 / 3]


# From tables to the matrix: input order, other drivers, and later rows.


@dataclass
class Past:
    frame: pd.DataFrame
    matrix: np.ndarray
    types: tuple[str, ...]

    def by_session(self):
        return dict(zip(self.frame["session_id"].tolist(), map(bytes, self.matrix), strict=True))


def from_rows(rows, types=("A", "B")):
    """Return the history columns of each session of raw rows."""
    frame = clean_history(raw(*rows, users=(), vehicles=())).frame
    return Past(frame, past_features(frame, types, mix_of(frame, types)), types)


def written(moment):
    return (EPOCH + timedelta(seconds=moment)).isoformat(sep=" ")


ROW = dict.fromkeys(SESSION) | {"user_id": "u1", "charger_type": "A"}


def row(session_id, moment, **values):
    return ROW | {"session_id": session_id, "charging_start_time": written(moment)} | values


@st.composite
def tables(draw):
    """Draw raw rows of a few drivers, with some equal starts."""
    drawn = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "moment": moments,
                    "user_id": st.sampled_from(["u1", "u1", "u2", None]),
                    "charger_type": st.sampled_from(["A", "B", "C"]),
                    "lasted": st.none() | st.integers(0, 20 * DAY),
                    "energy_consumed_kwh": st.none() | st.floats(0, 99),
                    "charging_duration_hours": st.none() | st.floats(0, 99),
                    "state_of_charge_start": st.none() | st.floats(0, 100),
                    "distance_driven_km": st.none() | st.floats(0, 999),
                }
            ),
            min_size=1,
            max_size=20,
        )
    )
    rows = []
    for number, values in enumerate(drawn):
        moment, lasted = values.pop("moment"), values.pop("lasted")
        end = None if lasted is None else written(moment + lasted)
        rows.append(row(number, moment, charging_end_time=end, **values))
    return rows


@settings(max_examples=EXAMPLES // 2)
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, random):
    one, other = from_rows(rows), from_rows(random.sample(rows, len(rows)))

    assert one.frame["session_id"].tolist() == other.frame["session_id"].tolist()
    assert one.matrix.tobytes() == other.matrix.tobytes()


@settings(max_examples=EXAMPLES // 2)
@given(tables())
def test_the_matrix_equals_fresh_histories_row_by_row(rows):
    # These are bit-identical to the features that serving computes for one request.
    past = from_rows(rows)
    starts = past.frame["charging_start_time"].to_numpy(dtype="datetime64[s]").astype(np.int64)
    codes = past.frame["charger_type"].map({"A": 0, "B": 1}).fillna(-1)
    population = mix_of(past.frame, past.types)

    for place, (user, start) in enumerate(zip(past.frame["user_id"], starts.tolist(), strict=True)):
        mine = (past.frame["user_id"] == user).to_numpy(dtype=bool, na_value=False) & (starts < start)
        fresh = remembered(past_sessions(past.frame[mine], past.types))
        before_today = Counter(codes[starts // DAY < (start - 15 * 60) // DAY])
        mix = [(1 + before_today[code]) / (2 + before_today[0] + before_today[1]) for code in range(2)]
        _, present = present_before(past.frame, past.types, population, start)
        assert to_bits([*fresh.features(start, mix), *present]) == past.matrix[place].tobytes()


@settings(max_examples=EXAMPLES // 4)
@given(tables(), tables(), moments)
def test_later_rows_change_nothing_of_earlier_ones(rows, others, moment):
    # Later rows may be added, changed or removed, and so may values that earlier rows get at a later end.
    limit = written(moment)
    probes = [row(1000 + number, moment, user_id=user) for number, user in enumerate(("u1", "u2", "new", None))]
    earlier = [one for one in rows if one["charging_start_time"] < limit]
    later = [one for one in rows if one["charging_start_time"] >= limit]
    other = [one | {"session_id": 500 + one["session_id"]} for one in others if one["charging_start_time"] >= limit]
    unfinished = [
        one | {"charging_end_time": None, "energy_consumed_kwh": None, "charging_duration_hours": None}
        if one["charging_end_time"] and one["charging_end_time"] > limit
        else one
        for one in earlier
    ]

    expected = from_rows([*earlier, *probes]).by_session()

    for some in ([*earlier, *later], [*earlier, *other], unfinished):
        found = from_rows([*some, *probes]).by_session()
        assert {number: found[number] for number in expected} == expected


def test_other_drivers_matter_for_a_past_only_through_the_mix_of_earlier_days():
    noon = at("2024-03-04 12:00:00")
    mine = [row(1, noon), row(2, noon + DAY, charger_type="B")]
    today = {"user_id": "u2", "charger_type": "B"}
    past_part = slice(present_places(2).start)
    alone = from_rows(mine).matrix[:, past_part]

    def with_others(*others):
        past = from_rows([*mine, *(row(10 + number, moment, **today) for number, moment in enumerate(others))])
        return past.matrix[(past.frame["user_id"] == "u1").to_numpy(), past_part]

    # Sessions of the day do not count. Two Bs of the day before count on the next day, at any hour.
    assert with_others(noon + DAY - 11 * HOUR, noon + DAY)[0].tobytes() == alone[0].tobytes()
    two_yesterday = with_others(noon - HOUR, noon + HOUR)
    assert two_yesterday[0].tobytes() == alone[0].tobytes()
    assert two_yesterday.tobytes() == with_others(noon - 2 * HOUR, noon - 3 * HOUR).tobytes()
    share = type_columns("share", 2)
    # One A, then three Bs or none, plus one added session of each type: A has 2/3 or 2/5 on the second day.
    assert alone[1, share].tolist() == [(1 + 2 / 3) / 2, (1 / 3) / 2]
    assert two_yesterday[1, share].tolist() == [(1 + 2 / 5) / 2, (3 / 5) / 2]
    # The driver's own columns are equal.
    assert (
        two_yesterday[1, driver_column("sessions", 2) :].tobytes() == alone[1, driver_column("sessions", 2) :].tobytes()
    )


def test_sessions_without_a_user_have_no_past_but_are_part_of_the_mix():
    noon = at("2024-03-04 12:00:00")

    past = from_rows([row(number, noon + number * DAY, user_id=None) for number in range(3)])

    assert past.matrix[:, driver_column("sessions", 2)].tolist() == [0, 0, 0]
    assert past.matrix[:, type_columns("share", 2)][:, 0].tolist() == [1 / 2, 2 / 3, 3 / 4]
