"""What the user says about a history file: options, and the file that keeps them."""

import io
from pathlib import Path

import pytest

from zap.errors import BadHistoryFile
from zap.flows.history_report import import_report, refusal
from zap.formats.history_choices import read_choices, save_choices
from zap.formats.history_file import Choices, parse_history

FILE = "Driver name,Plug,Began,Amount (kWh)\nann,Level 2,04/05/2024 9:05,12\n"
MAPPING = (
    "Driver name=user_id",
    "Plug = charger_type",
    "Began=charging_start_time",
    "Amount (kWh)=energy_consumed_kwh",
)


def parse(text, *mapping, **said):
    lines = io.StringIO(text, newline="")
    return parse_history(lines, lambda moment: moment.replace(tzinfo=None), read_choices(None, mapping, **said))


def test_it_works(tmp_path):
    """Read a file with other names, and keep what was said for the next file."""
    choices = read_choices(None, MAPPING, date_format="day-first")
    save_choices(tmp_path / "map.json", choices)

    assert read_choices(tmp_path / "map.json", ()) == choices
    (session,) = parse(FILE, *MAPPING, date_format="day-first").sessions.to_dict("records")
    assert (session["user_id"], session["charger_type"], session["energy_consumed_kwh"]) == ("ann", "Level 2", 12)
    assert str(session["charging_start_time"]) == "2024-05-04 09:05:00"


@pytest.mark.parametrize(
    "choices",
    [
        Choices(),
        Choices({"Zeit + Ort": "", "Tür": "user_id"}, "month-first", None, "comma", "cp1252"),
        Choices({}, None, "%d.%m.%Y %H:%M", "point", None),
        Choices({}, "year-first", sheet="Sessions 2024"),
    ],
)
def test_kept_choices_are_read_back(tmp_path, choices):
    save_choices(tmp_path / "map.json", choices)

    assert read_choices(tmp_path / "map.json", ()) == choices


def test_an_option_goes_before_a_kept_choice(tmp_path):
    save_choices(tmp_path / "map.json", Choices({"a": "user_id", "b": "user_type"}, "day-first", None, "comma", None))

    choices = read_choices(tmp_path / "map.json", ["b=vehicle_model"], date_format="month-first", decimal=None)

    assert choices == Choices({"a": "user_id", "b": "vehicle_model"}, "month-first", None, "comma", None)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"map": []}', '{"map": {"a": 1}}', '{"map": {}, "decimal": "dot"}', '{"map": {}, "encoding": 5}',
     '{"map": {}, "date_format": 1}', "null", "\u0000"],
)  # fmt: skip
def test_another_file_is_no_kept_choice(tmp_path, text):
    (tmp_path / "map.json").write_text(text)

    with pytest.raises(BadHistoryFile, match=r"map\.json"):
        read_choices(tmp_path / "map.json", ())


def test_a_folder_that_is_not_there_cannot_keep_choices(tmp_path):
    with pytest.raises(BadHistoryFile, match="cannot be written: No such file"):
        save_choices(tmp_path / "nowhere" / "map.json", Choices())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("date_format", text) for text in ("", "days", "dd/mm/yyyy", "%", "%d%d", "%Q", "%s", "%H:%M", "%d.%m.")),
        *(("encoding", text) for text in ("", "nope", "base64", "undefined", "a\0b")),
    ],
)
def test_an_option_that_means_nothing_is_refused(option, value):
    with pytest.raises(BadHistoryFile, match=f"--{option.replace('_', '-')} .* is not known; use"):
        read_choices(None, (), **{option: value})


@pytest.mark.parametrize("pattern", ["%d.%m.%Y %H:%M", "%Y%m%dT%H%M%S", "%b %d %Y %I:%M %p", "%Y-%m-%dT%H:%M:%S%z"])
def test_a_pattern_of_a_whole_date_is_taken(pattern):
    assert read_choices(None, (), date_format=pattern).date_pattern == pattern


def test_a_pattern_reads_all_times():
    text = "charger_type,charging_start_time\nA,20240131T1805\nA,2024-01-31 18:05\n"

    history = parse(text, date_format="%Y%m%dT%H%M")

    assert [str(time) for time in history.sessions["charging_start_time"]] == ["2024-01-31 18:05:00"]
    assert history.refused[0].reason == "charging_start_time '2024-01-31 18:05' is not written as %Y%m%dT%H%M"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["Plag=charger_type"], "--map names 'Plag', which is not in the file; the file has 4 columns: 'Driver name'"),
        (["Plug=chargertype"], "--map names the column 'chargertype', which zap does not have; did you mean charger_t"),
        (["Plug=zzz"], "--map names the column 'zzz', which zap does not have; zap has session_id, user_id, state_of"),
        (["Amount (kWh)=energy"], r"did you mean energy_consumed_kwh\? zap has .*, charging_rate_kw, .*, timestamp$"),
        (["Amount (kWh)=Driver"], r"did you mean user_id\? zap has session_id"),
        (["Plug"], "--map 'Plug' is not understood; write it as"),
        (["=user_id"], "--map '=user_id' is not understood"),
        (["Plug=user_id", "Began=user_id"], "--map gives user_id twice"),
        (["Plug+Began=user_id"], r"--map joins 'Plug\+Began'; only a date and a time of day can be joined"),
        (["Plug+Began+Driver name=charging_start_time"], "only a date and a time of day can be joined"),
    ],
)
def test_a_wrong_mapping_is_explained(mapping, message):
    with pytest.raises(BadHistoryFile, match=message):
        parse(FILE, *mapping)


def test_a_very_long_name_of_a_mapping_is_refused_at_once():
    with pytest.raises(BadHistoryFile, match="which zap does not have; zap has") as caught:
        parse(FILE, f"Plug={'energy ' * 20_000}")

    assert len(caught.value.message) < 1_000


def test_a_title_stands_above_names_that_only_the_mapping_knows():
    text = "Sessions of January 2024\nPlug,Day,Hour\nA,31/01/2024,9:05\n"

    history = parse(text, "Plug=charger_type", "Day+Hour=charging_start_time")

    assert [str(start) for start in history.sessions["charging_start_time"]] == ["2024-01-31 09:05:00"]
    assert history.survey.notes == ["left out 1 line above the names of the columns"]


@pytest.mark.parametrize("day", ["2024-01-31", "2024-01-31 00:00:00", "31/01/2024 0:00", "2024-01-31T00:00:00.000"])
@pytest.mark.parametrize("hour", ["9:05", "1899-12-30 09:05:00", "01/01/1900 09:05", "1904-01-01T09:05:00"])
def test_a_date_and_a_time_of_day_may_be_moments(day, hour):
    history = parse(f"plug type,start date,start time\nA,{day},{hour}\n")

    assert history.refused == []
    assert [str(start) for start in history.sessions["charging_start_time"]] == ["2024-01-31 09:05:00"]


@pytest.mark.parametrize("names", ["Plug-in {}", "charge start {}", "Session Start {}"])
def test_a_date_and_a_time_of_day_with_usual_names_are_joined(names):
    history = parse(f"plug type,{names.format('date')},{names.format('time')}\nA,31/01/2024,22:14\n")

    assert [str(start) for start in history.sessions["charging_start_time"]] == ["2024-01-31 22:14:00"]


SPLIT = "connector,day of start,day of end,hour of start,hour of end,note\nA,31/01/2024,01/02/2024,22:14,6:00,x\n"


def test_times_of_day_without_a_date_are_told_with_the_column_of_their_dates():
    mapping = ("hour of start=charging_start_time", "hour of end=charging_end_time")

    history = parse(SPLIT, *mapping)

    assert history.survey.split == {"charging_start_time": "day of start", "charging_end_time": "day of end"}
    said = (
        "charging_start_time: the values of 'hour of start' are times of day without a date; to join them with the"
        " dates of 'day of start', use --map \"day of start+hour of start=charging_start_time\""
    )
    assert said in refusal(Path("history.csv"), history).message.splitlines()
    assert said in import_report(Path("history.csv"), history).notes
    joined = ("day of start+hour of start=charging_start_time", "day of end+hour of end=charging_end_time")
    assert parse(SPLIT, *joined).refused == []


@pytest.mark.parametrize(
    "text",
    [
        "connector,start,day\nA,2024-01-31 22:14,31/01/2024\nA,22:14,31/01/2024\n",
        "connector,start,day\nA,22:14,31/01/2024\nA,2024-01-31 22:14,31/01/2024\n",
        "connector,start,day\nA,22:14,31/01/2024\nA,22:15,Monday\n",
        "connector,start,day\nA,22:14,\n",
        "connector,start,day\nA,soon,31/01/2024\n",
    ],
)
def test_no_column_of_dates_is_named_unless_all_values_fit(text):
    assert parse(text).survey.split == {}


def test_a_missing_column_is_told_with_the_columns_that_are_there_and_the_nearest():
    with pytest.raises(BadHistoryFile) as caught:
        parse("Driver,Charge Typ,Begun\n")

    assert caught.value.message == (
        "no column charger_type (or 'Charger Type') and charging_start_time (or 'Charging Start Time'); "
        "the file has 3 columns: 'Driver', 'Charge Typ', 'Begun'; perhaps --map \"Charge Typ=charger_type\""
    )
    assert caught.value.details == {"missing": ["charger_type", "charging_start_time"]}


def test_the_mapping_decides_between_two_columns():
    text = "User ID,charger_type,charging_start_time,user_id\n1,A,2024-01-01 10:00,2\n"

    with pytest.raises(BadHistoryFile, match="say which one with --map"):
        parse(text)
    history = parse(text, "User ID=user_id")

    assert history.sessions["user_id"].tolist() == ["1"]
    assert history.ignored_columns == ["user_id"]


def test_two_names_can_change_places_and_one_can_be_ignored():
    text = "user_id,user_type,charger_type,charging_start_time,temperature_c\na,b,A,2024-01-01 10:00,hot\n"

    history = parse(text, "user_id=user_type", "user_type=user_id", "temperature_c=")

    assert (history.sessions["user_id"].tolist(), history.sessions["user_type"].tolist()) == (["b"], ["a"])
    assert history.ignored_columns == ["temperature_c"]
