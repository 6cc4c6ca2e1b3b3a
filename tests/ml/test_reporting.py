"""Test how late sessions become known: real delays are measured, and loads of old data are no delays."""

import numpy as np
import pandas as pd
import pytest
from histories import BEGIN, cleaned

from zap.ml.reporting import GROUPS, OPEN_SESSIONS, Reporting, measure_reporting, newest_sessions

HOUR, DAY = 3600, 86_400
DAYS = 120


def history(days=DAYS, a_day=20, **columns):
    """Return sessions at regular times from BEGIN."""
    seconds = np.linspace(0, days * DAY, days * a_day, endpoint=False).astype(int)
    return cleaned(len(seconds), charging_start_time=BEGIN + pd.to_timedelta(seconds, unit="s"), **columns)


def measured(frame, stored):
    """Measure a history whose sessions were stored at these seconds after BEGIN; NaN where this is not known."""
    moments = BEGIN + pd.to_timedelta(np.asarray(stored, dtype=float), unit="s")
    texts = [None if pd.isna(moment) else str(moment) for moment in moments]
    return measure_reporting(newest_sessions(frame), dict(zip(frame["session_id"], texts, strict=True)))


def seconds_of(frame):
    return ((frame["charging_start_time"] - BEGIN) / pd.Timedelta(seconds=1)).to_numpy()


def uploaded(starts, days):
    """Return when sessions are stored that are uploaded at the end of each so many days."""
    return (starts // (days * DAY) + 1) * days * DAY + 300


def on_time(starts):
    return starts + np.arange(len(starts)) % 40


STORED = {
    "on time": (on_time, 1, 1),
    "at the end": (lambda starts: starts + 2 * HOUR, 120, 120),
    "every night": (lambda starts: uploaded(starts, 1), 22 * 60, 24 * 60),
    "every week": (lambda starts: uploaded(starts, 7), 6 * 1440, 7 * 1440),
    "every month": (lambda starts: uploaded(starts, 30), 27 * 1440, 31 * 1440),
    "days later": (lambda starts: starts + 12 * DAY + starts % DAY, 12 * 1440, 14 * 1440),
    "one in ten a day later": (lambda starts: starts + (np.arange(len(starts)) % 10 == 0) * DAY, 1440, 1440),
    "one in thirty a year later": (lambda starts: starts + 60 + (np.arange(len(starts)) % 30 == 0) * 365 * DAY, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_the_delay_of_reports_is_measured(name):
    stored, low, high = STORED[name]
    frame = history()

    reporting = measured(frame, stored(seconds_of(frame)))

    assert low <= reporting.delay_minutes <= high
    # A delay of a minute does not matter, and with a delay of weeks the present is not used.
    assert reporting.delay == (reporting.delay_minutes if 1 < high <= 7 * 1440 else 0)
    assert reporting.lag_minutes(15) == 15 + reporting.delay
    assert set(reporting.left_out()) == (set(GROUPS) if low > 7 * 1440 else set())
    assert reporting.in_words(15).startswith("The columns of the present end ") == (1 < high <= 7 * 1440)
    assert reporting.in_words(15).startswith("These columns are left out: ") == (low > 7 * 1440)


def test_a_delay_is_rounded_up_to_minutes_and_belongs_to_the_newest_eight_weeks():
    frame = history()
    starts = seconds_of(frame)
    stored = np.where(starts < (DAYS - 57) * DAY, starts + 40 * DAY, starts + 61)

    assert measured(frame, stored) == Reporting(2, without_end=0.0, measured=56 * 20 + 1)


def loaded(starts, moment, lasting=HOUR):
    """Return the seconds at which sessions are stored if they are loaded at one moment, in order of start."""
    return moment + np.linspace(0, lasting, len(starts))


@pytest.mark.parametrize("lasting", [0, HOUR, 20 * HOUR])
@pytest.mark.parametrize("days", [10, 21, 40, 300])
def test_a_history_that_was_loaded_in_one_go_has_no_known_delay(days, lasting):
    frame = history(days)

    reporting = measured(frame, loaded(seconds_of(frame), (days + 3) * DAY, lasting))

    assert reporting == Reporting(None, without_end=0.0, measured=0)
    assert (reporting.lag_minutes(15), reporting.left_out(), reporting.in_words(15)) == (15, {}, "")
    assert "not known" in reporting.as_dict(15)["delay_in_words"]


@pytest.mark.parametrize("live", [5, 20, 50])
def test_the_reports_after_a_load_are_measured(live):
    frame = history()
    starts = seconds_of(frame)
    begin = (DAYS - live) * DAY
    stored = np.where(starts < begin, loaded(starts, begin - 1800, 1800), starts + 600)

    reporting = measured(frame, stored)

    assert reporting.delay_minutes == 10
    assert (live - 1) * 20 <= reporting.measured <= live * 20


@pytest.mark.parametrize("hour", [0, 6, 12])
@pytest.mark.parametrize("lasting", [0, HOUR, 20 * HOUR])
def test_a_load_long_after_the_first_reports_is_no_delay(hour, lasting):
    """Report sessions live, beside a second site whose sessions are loaded afterwards."""
    frame = history()
    starts = seconds_of(frame)
    of_the_other = np.arange(len(starts)) % 2 == 1
    stored = np.where(of_the_other, loaded(starts, DAYS * DAY + hour * HOUR, lasting), on_time(starts))

    assert measured(frame, stored).delay_minutes == 1


def test_reports_that_always_come_months_late_are_no_loads():
    frame = history(a_day=200)
    starts = seconds_of(frame)
    stored = starts + np.random.default_rng(1).integers(0, 90 * DAY, len(starts))

    reporting = measured(frame, stored)

    assert reporting.delay_minutes == pytest.approx(0.95 * 90 * 1440, rel=0.05)
    assert reporting.measured > 0.9 * len(newest_sessions(frame))


UNKNOWN = {
    "none": lambda starts: np.full(len(starts), np.nan),
    "few": lambda starts: np.where(np.arange(len(starts)) >= len(starts) - 29, starts + 60, np.nan),
    "before the start": lambda starts: starts - 60,
    "the start": lambda starts: starts,
    "the start or before": lambda starts: starts - np.arange(len(starts)) % 2 * 60,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_timestamps_that_say_nothing_give_no_delay(name):
    frame = history()

    assert measured(frame, UNKNOWN[name](seconds_of(frame))) == Reporting(None, without_end=0.0, measured=0)


def test_thirty_timestamps_are_enough():
    frame = history()
    starts = seconds_of(frame)

    reporting = measured(frame, np.where(np.arange(len(starts)) >= len(starts) - 30, starts + 60, np.nan))

    assert reporting == Reporting(1, without_end=0.0, measured=30)


@pytest.mark.parametrize(
    "text", ["soon", "", 1704067200, b"2024-01-01", "2099-01-01T00:00:00Z", "2099-01-01 00:00:00+02:00", "2099-02-30"]
)
def test_timestamps_that_cannot_be_read_give_no_delay(text):
    newest = newest_sessions(history())

    reporting = measure_reporting(newest, dict.fromkeys(newest["session_id"], text))

    assert reporting == Reporting(None, without_end=0.0, measured=0)


def test_sessions_without_an_end_are_counted():
    frame = history()
    starts = np.arange(len(frame))
    frame.loc[starts % 4 != 0, "charging_end_time"] = pd.NaT
    frame.loc[starts % 4 == 1, "charging_duration_hours"] = np.nan
    assert measured(frame, on_time(seconds_of(frame))).without_end == pytest.approx(0.25, abs=0.01)

    frame["charging_duration_hours"] = np.nan
    reporting = measured(frame, on_time(seconds_of(frame)))

    assert reporting.without_end == pytest.approx(0.75, abs=0.01)
    assert set(reporting.left_out()) == {OPEN_SESSIONS}
    words = "75% of the newest sessions have neither an end nor a duration"
    assert reporting.in_words(15) == f"These columns are left out: open_sessions, because {words}."


def lately(hours, lacks, **columns):
    """Measure a history until some hours after its last midnight; `lacks` says by start and end which ends it lacks."""
    frame = history(DAYS + 1, a_day=48, **columns)
    starts = seconds_of(frame)
    frame = frame[starts < DAYS * DAY + hours * HOUR].reset_index(drop=True)
    starts = seconds_of(frame)
    ends = ((frame["charging_end_time"] - BEGIN) / pd.Timedelta(seconds=1)).to_numpy()
    frame.loc[lacks(starts, ends), ["charging_end_time", "charging_duration_hours"]] = [pd.NaT, np.nan]
    return measured(frame, on_time(starts))


def test_ends_that_are_stored_every_night_are_noticed():
    """A start is stored at once, and the ends of a day at midnight."""
    reporting = lately(20, lambda _, ends: ends > DAYS * DAY)

    # A session lasts two hours. The ends of about 20 of 22 hours of starts are missing.
    assert reporting.without_end < 0.05
    assert reporting.without_end_lately == pytest.approx(20 / 22, abs=0.03)
    assert set(reporting.left_out()) == {OPEN_SESSIONS}
    words = "88% of the last day's sessions have no end yet, so ends are stored late"
    assert reporting.in_words(15) == f"These columns are left out: open_sessions, because {words}."
    assert reporting.as_dict(15)["without_end_lately"] == round(reporting.without_end_lately, 4)
    assert reporting.delay_minutes == 1
    assert reporting.leaving_out({"num_leaves": 5}) == {"num_leaves": 5, "left_out": [OPEN_SESSIONS]}


def test_ends_that_are_stored_in_time_are_not_late():
    """The sessions that have not ended yet have no end."""
    reporting = lately(20, lambda _, ends: ends > DAYS * DAY + 20 * HOUR)

    assert (reporting.without_end > 0, reporting.without_end_lately, reporting.left_out()) == (True, 0.0, {})


def test_a_duration_is_an_end_and_few_sessions_say_nothing_about_the_last_day():
    # With a duration the end is known.
    frame = history(a_day=48).assign(charging_end_time=pd.Series(pd.NaT, index=range(DAYS * 48), dtype="datetime64[s]"))
    assert measured(frame, on_time(seconds_of(frame))).without_end_lately == 0
    # So few sessions that the last day has fewer than ten.
    frame = history(a_day=9)
    frame.loc[seconds_of(frame) > (DAYS - 1) * DAY, ["charging_end_time", "charging_duration_hours"]] = [pd.NaT, np.nan]
    assert measured(frame, on_time(seconds_of(frame))).without_end_lately == 0


@pytest.mark.parametrize("share", [0.5, 0.51])
def test_ends_are_late_if_more_than_half_of_the_last_day_s_sessions_lack_them(share):
    assert bool(Reporting(1, 0.0, 100, without_end_lately=share).left_out()) == (share > 0.5)


def test_late_reports_and_missing_ends_are_said_together():
    reporting = Reporting(9 * 60, without_end=1.0, measured=100)

    assert reporting.in_words(15) == (
        "These columns are left out: open_sessions, because 100% of the newest sessions have neither an end nor a"
        " duration. The columns of the present end 9.2 hours before each session, because 5 % of the newest sessions"
        " were stored 9 hours or more after their start."
    )
    assert reporting.as_dict(15) == {
        "delay_minutes": 540,
        "delay_in_words": "5 % of the newest sessions were stored 9 hours or more after their start",
        "measured_sessions": 100,
        "without_end": 1.0,
        "without_end_lately": 0.0,
        "lag_minutes": 555,
        "left_out": reporting.left_out(),
    }
    late = Reporting(7 * 1440 + 1, without_end=1.0, measured=100)
    assert late.in_words(15) == (
        "These columns are left out: open_sessions, recent_mixes, hour_of_week, because 5 % of the newest sessions were"
        " stored 7 days or more after their start."
    )
    assert Reporting(7 * 1440, without_end=0.5, measured=100).left_out() == {}


def test_at_most_ten_thousand_of_the_newest_sessions_are_looked_at():
    newest = newest_sessions(history(100, a_day=500))

    assert len(newest) == 10_000
    assert newest["session_id"].iloc[0] == 44 * 500 - 1
    assert newest["charging_start_time"].is_monotonic_increasing
    assert newest["session_id"].is_unique
    assert newest["session_id"].iloc[-1] == 49_999


def test_one_start_in_the_far_future_does_not_hide_the_other_sessions():
    frame = history()
    frame.loc[len(frame) - 1, "charging_start_time"] = pd.Timestamp("2099-01-01")

    assert measured(frame, on_time(seconds_of(frame))).delay_minutes == 1


def test_a_history_without_sessions_has_no_delay():
    assert measured(history().iloc[:0], []) == Reporting(None, without_end=0.0, measured=0)
