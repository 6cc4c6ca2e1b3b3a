import csv
import gzip
import io
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from conftest import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

import zap
from zap.errors import BadHistoryFile
from zap.formats.history_cells import FIRST_YEAR, LAST_YEAR
from zap.formats.history_file import RefusedRow, parse_history
from zap.formats.history_headers import IDS, NAMES, NEEDED, NUMBERS, PUBLIC_HEADERS, TEXTS, TIMES
from zap.ml.cells import PAST_NUMBERS, is_nothing
from zap.ml.features import FEATURES, MEASURED, STATION
from zap.ml.features import NUMBERS as RANGES

LONDON = ZoneInfo("Europe/London")


def in_london(moment):
    return moment.astimezone(LONDON).replace(tzinfo=None)


def parse(text):
    return parse_history(io.StringIO(text, newline=""), in_london)


def refusals(*rows, header="charger_type,charging_start_time,charging_end_time,energy_consumed_kwh"):
    return parse("\n".join([header, *rows])).refused


def reason(row, **header):
    (refused,) = refusals(row, **header)
    return refused.reason


def test_it_works():
    """Read the public file as users, vehicles and sessions."""
    values = {
        "User ID": "User_1",
        "Vehicle Model": "BMW i3",
        "Battery Capacity (kWh)": "42.2",
        "Charging Station ID": "Station_391",
        "Charging Start Time": "2024-01-01 00:00:00",
        "Charging End Time": "2024-01-01 00:39:00",
        "Energy Consumed (kWh)": "",
        "Temperature (°C)": "-3.5",
        "Vehicle Age (years)": "2.0",
        "Charger Type": "DC Fast Charger",
        "User Type": "Commuter",
    }
    row = ",".join(values.get(header, "") for header in PUBLIC_HEADERS)

    history = parse(",".join(PUBLIC_HEADERS) + "\n" + row + "\n")

    assert history.refused == []
    assert history.ignored_columns == []
    assert history.users.to_dict("records") == [{"user_id": "User_1", "user_type": "Commuter"}]
    assert history.vehicles.to_dict("records") == [
        {
            "user_id": "User_1",
            "vehicle_model": "BMW i3",
            "battery_capacity_kwh": 42.2,
            "vehicle_age_years": 2.0,
        }
    ]
    (session,) = history.sessions.to_dict("records")
    assert session["charger_type"] == "DC Fast Charger"
    assert session["charging_start_time"] == pd.Timestamp("2024-01-01 00:00:00")
    assert session["temperature_c"] == -3.5
    assert pd.isna(session["energy_consumed_kwh"])
    assert (session["user_type"], session["vehicle_model"]) == ("Commuter", "BMW i3")
    assert (session["battery_capacity_kwh"], session["vehicle_age_years"]) == (42.2, 2.0)


def test_the_tables_own_column_names_are_read(dundee_file):
    with gzip.open(dundee_file, "rt", encoding="utf-8", newline="") as lines:
        history = parse_history(lines, in_london)

    assert history.rows == len(history.sessions) == 12_421
    assert history.refused == []
    assert len(history.users) == history.sessions["user_id"].nunique()


@pytest.mark.parametrize(
    "header",
    [
        "charger_type,charging_start_time",
        "\ufeffcharger_type,charging_start_time",
        " Charger Type , charging  start time",
        "CHARGER_TYPE,Charging_Start_Time",
        '"charger_type","charging_start_time"',
        "charger_type;charging_start_time",
        "charger_type\tcharging_start_time",
    ],
)
def test_header_tolerates_case_spaces_quotes_a_byte_order_mark_and_other_delimiters(header):
    delimiter = next(mark for mark in ";\t," if mark in header)

    history = parse(f"{header}\nLevel 1{delimiter}2024-01-01 10:00:00\n")

    assert history.sessions["charger_type"].tolist() == ["Level 1"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_are_read(end):
    history = parse(end.join(["charger_type,charging_start_time", "A,2024-01-01 10:00", "B,x", ""]))

    assert history.sessions["charger_type"].tolist() == ["A"]
    assert [row.line for row in history.refused] == [3]


def test_the_manual_has_each_column():
    lines = (Path(zap.__file__).parent / "manual" / "files.md").read_text().splitlines()
    table = [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines if line.count("|") == 6]

    public = {name: header for header, name in PUBLIC_HEADERS.items()}
    columns = {column.name: column for column in (*FEATURES, *MEASURED, *STATION)}
    assert [row[0] for row in table] == ["column", "---", *NAMES]
    assert {*NAMES} == {*IDS, *TIMES, *NUMBERS, *TEXTS}
    for name, header, values, what, required in table[2:]:
        column = columns.get(name)
        kind = "time" if name in TIMES else "text" if name in TEXTS else "a [session id](reporting.md#ids-of-sessions)"
        assert header == public.get(name, "")
        assert values == (column.range if column and column.kind == "number" else kind)
        assert required == ("yes" if name in NEEDED else "")
        assert what


def test_missing_columns_are_named():
    with pytest.raises(BadHistoryFile, match=r"charging_start_time \(or 'Charging Start Time'\)") as caught:
        parse("user_id,charger_type\nU,A\n")

    assert caught.value.details == {"missing": ["charging_start_time"]}
    assert "the file has 2 columns: 'user_id', 'charger_type'" in caught.value.message


def test_two_columns_with_one_meaning_are_refused():
    with pytest.raises(BadHistoryFile, match="two columns mean user_id: 'User ID' and 'user_id'"):
        parse("User ID,charger_type,charging_start_time,user_id\n")


@pytest.mark.parametrize("text", ["", "\n", "   \n;;\n"])
def test_a_file_without_header_is_refused(text):
    with pytest.raises(BadHistoryFile, match="first line is empty"):
        parse(text)


@pytest.mark.parametrize("first", [b"\xff\xfec\x00h\x00", b"Temperature (\xb0C),charger_type", b"PK\x03\x04\x00"])
def test_a_header_that_is_not_utf8_text_is_refused(first):
    with pytest.raises(BadHistoryFile, match="not UTF-8 text"):
        parse(first.decode("utf-8", "surrogateescape"))


def test_an_unclosed_quote_in_the_header_is_refused():
    with pytest.raises(BadHistoryFile, match="column names cannot be read"):
        parse('charger_type,charging_start_time,"x')


def test_unknown_columns_and_vehicle_ids_are_ignored_and_named():
    # A vehicle_id refers to the database that the file came from, not to this database.
    history = parse("charger_type,mood,charging_start_time,vehicle_id\nA,good,2024-01-01 10:00,7\n")

    assert history.ignored_columns == ["mood", "vehicle_id"]
    assert not {"mood", "vehicle_id"} & set(history.sessions)


def test_a_header_alone_is_an_empty_history():
    history = parse("charger_type,charging_start_time,user_id\n")

    assert (history.rows, len(history.sessions), len(history.users), history.refused) == (0, 0, 0, [])


def test_blank_lines_are_skipped():
    history = parse("charger_type,charging_start_time\n\n,\nA,2024-01-01 10:00\n\n")

    assert history.rows == 1
    assert history.refused == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("-2.50", -2.5), ("+.5", 0.5), ("7.", 7), (" 3 ", 3), ("1e-05", 0.00001), ("007", 7)],
)
def test_plain_decimal_numbers_are_read(text, number):
    history = parse(f"charger_type,charging_start_time,energy_consumed_kwh\nA,2024-01-01 10:00,{text}\n")

    assert history.sessions["energy_consumed_kwh"].tolist() == [number]


@pytest.mark.parametrize("text", ["", "nan", "NaN", "  ", "NULL", "None", "n/a", "#N/A", "\\N", "-", "?", "\u200b"])
def test_an_empty_number_or_a_word_for_nothing_is_missing(text):
    history = parse(f"charger_type,charging_start_time,energy_consumed_kwh\nA,2024-01-01 10:00,{text}\n")

    assert history.sessions["energy_consumed_kwh"].isna().tolist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        *("inf", "-Infinity", "1e999", "1_000", "0x10", "١٢", "1.2.3", ".", "--1", "- 1", "1 2", "+", "1e", "12 kWhh"),
        *("12 km", "kWh", "kWh 12", "kWh kWh", "1.000.00", "12.5.", "½", "12kWh kWh", "$12", "12%"),
        *('"1,00,000"', '"12,34.5"', '"1,"', '"1,2,3"', '",,"'),
    ],
)
def test_other_numbers_are_refused(text):
    # The other row has a decimal point, so that a comma is no decimal comma.
    (refused,) = refusals(f"A,2024-01-01 10:00,,{text}", "A,2024-01-01 11:00,,12.5")

    shown = repr(text.strip('"'))
    assert refused.reason == f"energy_consumed_kwh {shown} is not a number such as 12.5"


@pytest.mark.parametrize(
    ("text", "wall_time"),
    [
        ("2024-01-31 18:05:09", "2024-01-31 18:05:09"),
        ("2024-01-31 18:05", "2024-01-31 18:05:00"),
        ("2024-01-31T18:05:09", "2024-01-31 18:05:09"),
        ("2024-01-31 18:05:09.999999999", "2024-01-31 18:05:09"),
        ("2024-07-31T18:05:09Z", "2024-07-31 19:05:09"),
        ("2024-07-31T18:05:09.7+02:00", "2024-07-31 17:05:09"),
        ("2024-07-31 18:05:09+0200", "2024-07-31 17:05:09"),
        ("2024-07-31 18:05:09+02", "2024-07-31 17:05:09"),
        ("2024-01-31", "2024-01-31 00:00:00"),
        ("31.01.2024 18:05", "2024-01-31 18:05:00"),
        ("01/31/2024 18:05", "2024-01-31 18:05:00"),
    ],
)
def test_times_are_read_as_wall_time_to_the_second(text, wall_time):
    history = parse(f"charger_type,charging_start_time\nA,{text}\n")

    assert history.refused == []
    assert history.sessions["charging_start_time"].tolist() == [pd.Timestamp(wall_time)]


@pytest.mark.parametrize(
    "text",
    [
        *("2024-02-30 10:00:00", "30.02.2024 10:00", "2024-13-01 10:00", "13/13/2024 10:00", "0/1/2024 10:00"),
        *("2024-01/31 10:00", "31.01/2024 10:00", "2024-01-31 10", "2024-01-31 1000", "2024-01-31T", "31.01.024 10:00"),
        *("31 Foo 2024", "31 Januar 2024 10:00 Uhr", "2024-01-31 13:05 AM", "2024-01-31 0:05 PM", "٢٠٢٤-٠١-٣١ ١٠:٠٠"),
        *("2024-01-31 18:05 CET", "2024-01-31 18:05+25:00", "18:05", "45322.75", "2024-01-31 18:05 2024-01-31 18:05"),
        "2024-01-31 24:00:00",
        "2024-01-31 18:05:60",
        "20240131T1805",
        "2024-W05-3",
        "1706724309",
        "0000-01-01 00:00",
        "2024-01-31 18:05 PM",
    ],
)
def test_other_times_are_refused(text):
    assert reason(f"A,{text},,1") == f"charging_start_time {text!r} is not a time such as 2024-01-31 18:05:00"


@pytest.mark.parametrize(
    "text", ["0001-01-01 00:00:00+14:00", "0014-01-31 10:00", "1989-12-31 23:59", "2101-01-01 00:00", "9999-12-31"]
)
def test_a_year_in_which_no_session_was_is_refused(text):
    assert reason(f"A,{text},,1") == f"charging_start_time {text!r} is not in the years 1990 to 2100"
    assert reason(f"A,2024-01-01 10:00,{text},1").endswith("is not in the years 1990 to 2100")


def test_a_session_of_more_than_a_year_is_refused():
    assert refusals("A,2024-01-01 10:00,2025-01-01 10:00,1") == []
    assert reason("A,2024-01-01 10:00,2025-01-01 10:01,1") == (
        "charging_end_time 2025-01-01T10:01:00 is more than a year after charging_start_time 2024-01-01T10:00:00"
    )


def test_empty_charger_type_and_start_are_refused_together():
    assert reason("  ,,,1") == "charger_type is empty; charging_start_time is empty"
    assert reason("NULL,nan,,1") == "charger_type is 'NULL': no value; charging_start_time is 'nan': no value"
    assert reason("\u200b,2024-01-01 10:00,,1") == "charger_type is '\\u200b': no value"


def test_an_end_before_the_start_is_refused():
    assert reason("A,2024-01-01 10:00,2024-01-01 09:59,1") == (
        "charging_end_time 2024-01-01T09:59:00 is before charging_start_time 2024-01-01T10:00:00"
    )


def test_an_end_at_the_start_is_accepted():
    assert refusals("A,2024-01-01 10:00,2024-01-01 10:00,1") == []


def test_a_session_over_the_hour_that_the_clocks_repeat_is_accepted():
    assert refusals("A,2024-10-27T00:50Z,2024-10-27T01:10Z,1") == []


def test_start_and_end_are_compared_as_wall_times_where_one_has_an_offset():
    assert refusals("A,2024-07-01 10:00,2024-07-01T09:30Z,1") == []
    assert "is before" in reason("A,2024-07-01 10:00,2024-07-01T08:30Z,1")


OF_IDS = "session_id,user_id,charger_type,charging_start_time"


def ids(*cells):
    """Return the ids of rows with these cells, and the reasons of the refused rows."""
    rows = [f"{cell},U,A,2024-01-01 10:{minute:02}" for minute, cell in enumerate(cells)]
    history = parse("\n".join([OF_IDS, *rows]))
    numbers = history.sessions["session_id"].astype(object)
    texts = history.sessions.get("session_text", numbers * 0).astype(object)
    read = [text if pd.isna(number) else number for number, text in zip(numbers, texts, strict=True)]
    return [None if pd.isna(one) else one for one in read], {row.line: row.reason for row in history.refused}


@pytest.mark.parametrize("text", ["1.5", "1e3", "1.23E+15", "9007199254740993.0", "9" * 65])
def test_a_number_that_is_no_id_is_refused(text):
    read, refused = ids("7", text)

    assert read == [7]
    assert "is not a whole number" in refused[3]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        # A column of numbers.
        (["12", "12.0", "0", "", "n/a", "-3"], [12, 12, 0, None, None, -3]),
        # Numbers that no JSON reader keeps are texts.
        (["12", "9007199254740993"], [12, "9007199254740993"]),
        # One text makes it a column of texts, in which digits are numbers still.
        (["3f25-04e0", "12", "1e3", "12.0", "", "007"], ["3f25-04e0", 12, "1e3", "12.0", None, 7]),
        (["a \u00a0 b", "c\u200bd"], ["a b", "cd"]),
    ],
)
def test_ids_are_numbers_or_texts(cells, read):
    assert ids(*cells) == (read, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x" * 65, "has 65 characters"), ("a\x07b", "no control characters"), ("\udceb", "not UTF-8")],
)
def test_a_text_that_is_no_id_is_refused(text, reason):
    read, refused = ids("abc", text)

    assert read == ["abc"]
    assert reason in refused[3]


def test_rows_of_different_sessions_with_one_id_are_refused():
    rows = [
        "1,U,A,2024-01-01 10:00",
        "1,U,A,2024-01-02 10:00",  # Another start alone is a correction,
        "2,U,A,2024-01-01 10:00",
        "2,V,A,2024-01-01 10:00",  # and another user alone too.
        "3,U,A,2024-01-01 10:00",
        "3,U,A,2024-01-01 10:00",
        "3,V,A,2024-01-03 10:00",
        "x,,A,2024-01-01 10:00",
        "x,,A,2024-01-03 10:00",
        "y,W,A,2024-01-05 10:00",
        # The first row agrees with both others, but the second row does not agree with what is left at the end.
        "4,U,A,2024-01-01 10:00",
        "4,U,A,2024-01-02 10:00",
        "4,V,A,2024-01-01 10:00",
    ]

    history = parse("\n".join([OF_IDS, *rows]))

    assert {row.line: row.reason for row in history.refused} == {
        **dict.fromkeys((6, 7, 8), "session_id 3 has different users and different starts in the lines 6 and 8"),
        **dict.fromkeys((9, 10), "session_id x has different users and different starts in the lines 9 and 10"),
        **dict.fromkeys((12, 13, 14), "session_id 4 has different users and different starts in the lines 13 and 14"),
    }
    assert history.lines.tolist() == [2, 3, 4, 5, 11]
    assert history.rows == 13
    assert history.users["user_id"].tolist() == ["U", "V", "W"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A\x00B", "holds a control character"),
        ("A\x1bB", "holds a control character"),
        ("A\tB", "holds a control character"),
        ('"A\nB"', "holds a control character"),
        ("A\x85B", "holds a control character"),
        ("A\udcffB", "is not UTF-8"),
        ("A" * 501, "is longer than 500 characters"),
    ],
)
def test_text_that_a_database_cannot_hold_is_refused(text, problem):
    assert problem in reason(f"{text},2024-01-01 10:00,,1")


def test_text_of_all_languages_is_kept():
    history = parse("charger_type,charging_start_time\nДва\u00a0кабеля 充电 🔌,2024-01-01 10:00\n")

    # A no-break space is a space; a reader cannot tell them apart.
    assert history.sessions["charger_type"].tolist() == ["Два кабеля 充电 🔌"]
    assert history.folded == {"charger_type": {"Два\u00a0кабеля 充电 🔌": "Два кабеля 充电 🔌"}}


@pytest.mark.parametrize("row", ["A,2024-01-01 10:00,,1,x", "A,2024-01-01 10:00,,1,,x", "A,2024-01-01 10:00,"])
def test_rows_with_another_number_of_fields_are_refused(row):
    assert "fields where the header has 4" in reason(row)


def test_empty_cells_after_the_last_column_are_left_out():
    assert refusals("A,2024-01-01 10:00,,1,", "A,2024-01-01 11:00,,1,,,") == []


def test_lines_count_from_the_header_over_quoted_line_ends():
    refused = refusals(
        '"A\nB",2024-01-01 10:00,,1',
        "A,2024-01-01 10:00,,1",
        "",
        "A,2024-01-01 10:00,,x",
        'A"B,x,,1',
        '"A"B,x,,1',
    )

    assert [row.line for row in refused] == [2, 6, 7, 8]


def test_an_open_quote_names_the_lines_that_it_takes():
    refused = refusals("A,2024-01-01 10:00,,1", '"A,2024-01-01 10:00,,1', "B,2024-01-01 10:00,,1")

    assert refused == [RefusedRow(3, "(to line 4) not readable as CSV: unexpected end of data")]


def test_users_and_vehicles_have_the_latest_values_and_sessions_their_own():
    history = parse(
        "user_id,user_type,vehicle_model,vehicle_age_years,charger_type,charging_start_time\n"
        "U,Commuter,Leaf,4,A,2024-03-01 10:00\n"
        "U,Casual,Leaf,3,A,2024-01-01 10:00\n"
        "U,,Leaf,,A,2024-05-01 10:00\n"
    )

    assert history.users["user_type"].tolist() == ["Commuter"]
    assert history.vehicles["vehicle_age_years"].tolist() == [4]
    own = history.sessions[["user_type", "vehicle_age_years"]].astype(object)
    assert own.where(own.notna(), None).to_numpy().tolist() == [["Commuter", 4.0], ["Casual", 3.0], [None, None]]


def test_a_user_without_a_described_vehicle_has_no_vehicle():
    history = parse("user_id,vehicle_model,charger_type,charging_start_time\nU,,A,2024-03-01 10:00\n")

    assert len(history.vehicles) == 0


def test_a_vehicle_without_model_keeps_its_battery():
    history = parse("user_id,battery_capacity_kwh,charger_type,charging_start_time\nU,40,A,2024-03-01 10:00\n")

    (vehicle,) = history.vehicles.to_dict("records")
    assert (vehicle["user_id"], vehicle["battery_capacity_kwh"]) == ("U", 40)
    assert pd.isna(vehicle["vehicle_model"])


def test_rows_without_a_user_are_kept_and_counted_if_they_describe_one():
    history = parse(
        "user_id,user_type,charger_type,charging_start_time\n,Commuter,A,2024-03-01 10:00\n,,A,2024-03-01 11:00\n"
    )

    assert (len(history.sessions), len(history.users), history.without_user) == (2, 0, 1)


@pytest.mark.parametrize("feature", [*RANGES, *PAST_NUMBERS], ids=lambda feature: feature.name)
def test_values_out_of_range_are_kept_and_counted(feature):
    values = [feature.minimum, feature.maximum, feature.minimum - 1, feature.maximum + 1]
    rows = "".join(f"A,2024-01-01 10:00,{value}\n" for value in [*values, ""])

    history = parse(f"charger_type,charging_start_time,{feature.name}\n{rows}")

    assert history.rows == len(history.sessions) == 5
    assert history.outside == {feature.name: 3 if feature.minimum_excluded else 2}


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
names = texts.filter(lambda text: not is_nothing(text))
# Types that differ in case only would become one.
types = names.filter(lambda text: text == text.casefold())
numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
times = st.datetimes(*(pd.Timestamp(year, 1, 1).to_pydatetime() for year in (FIRST_YEAR, LAST_YEAR))).map(
    lambda moment: moment.replace(microsecond=0)
)


@settings(max_examples=EXAMPLES // 2)
@given(st.lists(st.tuples(names, types, times, numbers), max_size=8))
def test_written_csv_is_read_back(rows):
    # All values that a tool writes as CSV are read back unchanged, except words for nothing.
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["user_id", "charger_type", "charging_start_time", "energy_consumed_kwh"])
    writer.writerows(rows)

    sessions = parse(file.getvalue()).sessions

    energy = sessions["energy_consumed_kwh"].astype(object).where(sessions["energy_consumed_kwh"].notna(), None)
    starts = sessions["charging_start_time"].dt.to_pydatetime()
    assert rows == list(zip(sessions["user_id"], sessions["charger_type"], starts, energy, strict=True))


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    # Every row of any file is either accepted or refused with a reason.
    history = parse("charger_type,charging_start_time,user_id\nA,2024-01-01 10:00,U\n" + text)

    assert history.rows == len(history.sessions) + len(history.refused)
    assert history.sessions[["charger_type", "charging_start_time"]].notna().to_numpy().all()
    assert all(row.reason and row.line >= 2 for row in history.refused)


@given(st.permutations(range(6)))
def test_the_order_of_rows_decides_nothing(order):
    rows = [f"U{row % 2},T{row % 3},M{row % 2},{row},A,2024-01-01 1{row}:00" for row in range(6)]
    header = "user_id,user_type,vehicle_model,vehicle_age_years,charger_type,charging_start_time"

    shuffled = parse("\n".join([header, *(rows[place] for place in order)]))
    ordered = parse("\n".join([header, *rows]))

    pd.testing.assert_frame_equal(ordered.users, shuffled.users)
    pd.testing.assert_frame_equal(ordered.vehicles, shuffled.vehicles)


def test_times_with_offset_reach_the_drivers_clock():
    # The callable decides the conversion; here it converts to UTC.
    history = parse_history(
        ["charger_type,charging_start_time\n", "A,2024-07-31T18:05:09+02:00\n"],
        lambda moment: moment.astimezone(UTC).replace(tzinfo=None),
    )

    assert history.sessions["charging_start_time"].tolist() == [pd.Timestamp("2024-07-31 16:05:09")]
