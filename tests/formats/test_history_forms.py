"""Other forms in which people write dates, numbers, texts and tables."""

import io
import json
from collections import defaultdict

import pandas as pd
import pytest

from zap.errors import BadHistoryFile
from zap.flows.history_import import read_file
from zap.formats.history_cells import read_moments, read_numbers, read_plain_times, to_wall_times
from zap.formats.history_choices import read_choices
from zap.formats.history_file import parse_history
from zap.ml.cells import is_nothing, read_id, read_text

ROW = {"user_id": "ann", "charger_type": "Level 2", "charging_start_time": "2024-01-31 18:05", "temperature_c": 4.5}
CSV = "user_id,charger_type,charging_start_time,temperature_c\nann,Level 2,2024-01-31 18:05,4.5\n"


def utc(moment):
    return moment.replace(tzinfo=None)


def parse(text, **said):
    return parse_history(io.StringIO(text, newline=""), utc, read_choices(None, (), **said))


def starts(*texts, **said):
    history = parse("charger_type;charging_start_time\n" + "".join(f"A;{text}\n" for text in texts), **said)
    assert history.refused == []
    return [format(time, "%Y-%m-%d %H:%M:%S") for time in history.sessions["charging_start_time"]]


def energies(*texts, **said):
    rows = "".join(f"A;2024-01-01 10:00;{text}\n" for text in texts)
    history = parse(f"charger_type;charging_start_time;energy_consumed_kwh\n{rows}", **said)
    assert history.refused == []
    return history.sessions["energy_consumed_kwh"].tolist()


def is_the_row(sessions):
    (found,) = sessions.to_dict("records")
    assert {name: found[name] for name in ROW} == ROW | {"charging_start_time": pd.Timestamp("2024-01-31 18:05")}


@pytest.mark.parametrize(
    "text",
    [
        *("2024-01-31 18:05", "2024-01-31T18:05:00Z", "2024-1-31 18:05", "2024/1/31 18:05", "2024.01.31 18:05"),
        *("31.01.2024 18:05", "31/01/2024 18:05:00", "31-1-2024 18:05", "31/01/24 18:05", "31.01.2024, 18:05"),
        *("1/31/2024 6:05 PM", "1/31/2024 6:05:00 pm", "01/31/24 06:05PM", "1/31/2024 6:05 p.m."),
        *("31 Jan 2024 18:05", "31-Jan-2024 18:05", "31 January 2024 18:05", "Jan 31, 2024 6:05 PM"),
        *("January 31 2024 18:05", "2024-01-31 18:05:00.000", "2024-01-31 18:05 UTC", "2024-01-31  18:05"),
    ],
)
def test_one_moment_in_many_forms(text):
    assert starts(text) == ["2024-01-31 18:05:00"]


@pytest.mark.parametrize(
    ("text", "hour"), [("12:05 AM", "00"), ("1:05 AM", "01"), ("12:05 PM", "12"), ("11:05 PM", "23")]
)
def test_twelve_is_midnight_or_noon(text, hour):
    assert starts(f"2024-01-31 {text}") == [f"2024-01-31 {hour}:05:00"]


def test_one_date_decides_for_all_dates_of_the_file():
    assert starts("05/04/2024 9:05", "31/01/2024 9:05") == ["2024-04-05 09:05:00", "2024-01-31 09:05:00"]
    assert starts("05/04/2024 9:05", "1/31/2024 9:05") == ["2024-05-04 09:05:00", "2024-01-31 09:05:00"]


def test_the_end_decides_for_the_start():
    header = "charger_type,charging_start_time,charging_end_time\n"

    sessions = parse(f"{header}A,05/04/2024 9:05,05/04/2024 9:35\nA,12/06/2024 23:00,13/06/2024 1:00\n").sessions

    assert [str(time) for time in sessions["charging_start_time"]] == ["2024-04-05 09:05:00", "2024-06-12 23:00:00"]


def test_a_date_with_equal_numbers_needs_no_decision():
    assert starts("05/05/2024 9:05") == ["2024-05-05 09:05:00"]


def test_dates_that_nothing_decides_are_asked_for():
    with pytest.raises(BadHistoryFile, match="'05/04/2024 9:05' can have the day or the month first"):
        starts("05/04/2024 9:05", "2024-01-31 10:00")
    assert starts("05/04/2024 9:05", date_format="day-first") == ["2024-04-05 09:05:00"]
    assert starts("05/04/2024 9:05", date_format="month-first") == ["2024-05-04 09:05:00"]


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        # The other order would give dates in the future.
        (["24/01/31"], ["2024-01-31"]),
        (["24.01.31 9:05", "24.02.01 18:20"], ["2024-01-31", "2024-02-01"]),
        (["31/01/24"], ["2024-01-31"]),
        (["31/01/24", "05/04/24"], ["2024-01-31", "2024-04-05"]),
        # The year 99 is no day.
        (["99/01/15"], ["2099-01-15"]),
        # Only one order has no earlier date below a later one.
        (["24/01/15", "24/02/10"], ["2024-01-15", "2024-02-10"]),
        (["25/03/24", "01/04/24"], ["2024-03-25", "2024-04-01"]),
        # The only order that both texts can have.
        (["12-30-24", "13-12-25"], []),
        # A date with a year of four digits decides.
        (["25/04/24", "31/01/2024"], ["2024-04-25", "2024-01-31"]),
    ],
)
def test_a_year_of_two_digits_is_first_or_last_in_the_whole_file(texts, dates):
    if dates:
        assert [start[:10] for start in starts(*texts)] == dates
    else:
        with pytest.raises(BadHistoryFile, match="--date-format"):
            starts(*texts)


@pytest.mark.parametrize("text", ["25/04/24 10:00", "05/04/24", "12/12/10"])
def test_a_year_of_two_digits_that_nothing_decides_is_asked_for(text):
    with pytest.raises(BadHistoryFile, match=r"the year first, and no other date .* or --date-format year-first"):
        starts(text)
    year, month, day = text[:8].split("/")
    assert starts(text, date_format="year-first")[0][:10] == f"20{year}-{month}-{day}"


def test_the_order_in_time_never_decides_between_day_and_month():
    with pytest.raises(BadHistoryFile, match="'04/05/24' can have the day or the month first"):
        starts("04/05/24", "03/06/24")


def test_dates_that_contradict_each_other_are_told():
    with pytest.raises(BadHistoryFile, match=r"'31/01/2024 9:05' can only .* day first and .* '1/30/2024 9:05' only"):
        starts("31/01/2024 9:05", "1/30/2024 9:05")


def test_dates_without_a_time_of_day_are_counted():
    history = parse("charger_type,charging_start_time\nA,2024-01-31\nA,31 Jan 2024\nA,2024-01-31 10:00\n")

    assert history.survey.date_only == {"charging_start_time": 2}


@pytest.mark.parametrize(
    ("text", "at_once"),
    [
        *((text, True) for text in ("2024-01-31 18:05:09", "2024-01-31T18:05", "2024-02-29 00:00:00", "")),
        *((text, True) for text in ("1990-01-01 00:00", "2100-12-31 23:59:59")),
        *((text, False) for text in ("1989-12-31 23:59", "2101-01-01 00:00:00", "2023-02-29 10:00", "NULL")),
        *((text, False) for text in ("2024-01-31 24:00:00", "2024-01-31 18:60", "2024-01-31 18:05:61", "2024-01-31")),
        *((text, False) for text in ("2024-01-31T18:05Z", "2024-01-31T10+01:00", "2024-01-31 18.05:00", "now")),
        *((text, False) for text in ("2024-01-31  8:05", "2024-01-31 1:05:09", "\uff12024-01-31 18:05")),
    ],
)
def test_times_that_are_read_at_once_are_what_the_slower_reader_reads(text, at_once):
    problems = defaultdict(list)
    slowly = to_wall_times(read_moments("start", [text], problems), utc)

    quickly = read_plain_times([text])

    assert (quickly is not None) == at_once
    assert not at_once or (str(quickly), problems) == (str(slowly), {})


@pytest.mark.parametrize(
    "text", ["12.5", "-3", "5.", ".5", "-.5", "1.2.3", "--1", "1-2", ".", "-", "9" * 400, "007", ""]
)
@pytest.mark.parametrize("mark", ["point", "comma"])
def test_numbers_that_are_read_at_once_are_what_the_slower_reader_reads(text, mark):
    alone, beside = defaultdict(list), defaultdict(list)

    quickly = read_numbers("energy_consumed_kwh", [text], alone, mark)
    slowly = read_numbers("energy_consumed_kwh", [text, "7 kWh"], beside, mark)

    assert (str(quickly), alone) == (str(slowly[:1]), beside)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["12,5"], [12.5]),
        (["12,5", "1.234,5", "1.234", "7"], [12.5, 1234.5, 1234, 7]),
        (["12.5", "1,234.5", "1,234", "7"], [12.5, 1234.5, 1234, 7]),
        (["1,234,567"], [1234567]),
        (["1.234.567"], [1234567]),
        (["-0,25", "+3,0"], [-0.25, 3]),
        (["0,125"], [0.125]),
        (["-0,125", "3"], [-0.125, 3]),
        (["12 kWh", "12.5kWh", "12.25 KWH", "1,234.5 kWh"], [12, 12.5, 12.25, 1234.5]),
        (["12,5 kWh"], [12.5]),
        (["1.234"], [1.234]),
        (["1 234,5", "1\u00a0234\u00a0567,5", "7"], [1234.5, 1234567.5, 7]),
        (["1'234.5", "1\u2019234", "1\u202f234\u202f567"], [1234.5, 1234, 1234567]),
        (["\u22124.5"], [-4.5]),
        # A vehicle that feeds the grid.
        (["-4.5"], [-4.5]),
    ],
)
def test_numbers_are_read_with_the_mark_of_the_file(texts, numbers):
    assert energies(*texts) == numbers


def test_a_comma_that_nothing_decides_is_asked_for():
    with pytest.raises(BadHistoryFile, match="'1,000' can be a number with three decimals or a number with a mark"):
        energies("1,000", "12")
    assert energies("1,000", decimal="point") == [1000]
    assert energies("1,000", decimal="comma") == [1]


def distances(*texts, rest=",", **choices):
    """Read distances from a file whose numbers of energy are `rest`."""
    rows = "".join(f"A;2024-01-{day:02d} 10:00;{text};{rest}\n" for day, text in enumerate(texts, 1))
    history = parse(f"charger_type;charging_start_time;distance_driven_km;energy_consumed_kwh\n{rows}", **choices)
    return history.sessions["distance_driven_km"].tolist(), history.survey.decimal_note


def test_a_point_that_nothing_decides_is_asked_for():
    with pytest.raises(BadHistoryFile, match=r"distance_driven_km '1\.234' can be a number with three decimals or a"):
        distances("1.234", "12", rest="")
    assert distances("1.234", rest="", decimal="point") == ([1.234], None)
    assert distances("1.234", rest="", decimal="comma")[0] == [1234]


@pytest.mark.parametrize(
    ("rest", "numbers", "note"),
    [
        ("12.5", [1.234, 12], None),
        ("0.512", [1.234, 12], None),
        ("12,5", [1234, 12], "numbers are read with a decimal comma; distance_driven_km '1.234' means 1,234"),
        # 7,234 kWh are more than any charge.
        ("7.234", [1.234, 12], "numbers are read with a decimal point, because energy_consumed_kwh '7.234' would be"),
    ],
)  # fmt: skip
def test_another_column_decides_about_a_point(rest, numbers, note):
    read, said = distances("1.234", "12", rest=rest)

    assert (read, said and said[: len(note or "")]) == (numbers, note)


def test_three_decimals_that_cannot_be_thousands_are_not_asked_for():
    assert energies("7.234", "12.500", "31.118") == [7.234, 12.5, 31.118]


def test_a_number_of_json_has_a_point_beside_texts_with_a_comma():
    lines = [
        '{"charger_type": "A", "charging_start_time": "2024-01-01 10:00", "distance_driven_km": 1.234}',
        '{"charger_type": "A", "charging_start_time": "2024-01-02 10:00", "distance_driven_km": "12,5"}',
    ]
    assert parse(lines[0]).sessions["distance_driven_km"].tolist() == [1.234]
    with pytest.raises(BadHistoryFile, match=r"has a decimal point and distance_driven_km '12,5' a decimal comma"):
        parse("\n".join(lines))


def test_ids_and_names_that_are_numbers_stay_as_they_are():
    line = (
        '{"charger_type": 22.125, "charging_start_time": "2024-01-01 10:00", "user_id": 3.125,'
        ' "charging_station_id": 51.507, "distance_driven_km": 1.234}'
    )

    (row,) = parse(line).sessions.to_dict("records")

    assert (row["user_id"], row["charging_station_id"], row["charger_type"]) == ("3.125", "51.507", "22.125")
    assert row["distance_driven_km"] == 1.234


def test_two_marks_in_one_file_are_told():
    with pytest.raises(BadHistoryFile, match=r"'12\.5' has a decimal point and energy_consumed_kwh '12,5' a decimal c"):
        energies("12.5", "12,5")


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("temperature_c", "-3.5 °C", -3.5),
        ("temperature_c", "4 C", 4),
        ("state_of_charge_start", "80%", 80),
        ("state_of_charge_start", "80 %", 80),
        ("distance_driven_km", "120 km", 120),
        ("charging_duration_hours", "1.5 h", 1.5),
        ("charging_duration_hours", "2:30:00", 2.5),
        ("charging_cost_usd", "$12.50", 12.5),
        ("charging_cost_usd", "USD 12.50", 12.5),
        ("vehicle_age_years", "2 yrs", 2),
        ("charging_rate_kw", "7.4 kW", 7.4),
    ],
)
def test_the_unit_of_the_column_may_stand_in_its_cells(name, text, number):
    history = parse(f"charger_type,charging_start_time,{name}\nA,2024-01-01 10:00,{text}\n")

    assert history.refused == []
    assert history.sessions[name].tolist() == [number]


@pytest.mark.parametrize(
    "word", ["NULL", "null", "nan", "NaN", "N/A", "n/a", "NA", r"\N", "-", "#N/A", "None", "<NA>", "NaT"]
)
def test_a_word_for_nothing_is_missing_in_every_column(word):
    history = parse(f"user_id,user_type,charger_type,charging_start_time,charging_end_time,temperature_c,session_id\n"
                    f"{word},{word},A,2024-01-01 10:00,{word},{word},{word}\n")  # fmt: skip

    assert history.refused == []
    names = ["user_id", "user_type", "charging_end_time", "temperature_c", "session_id"]
    assert history.sessions[names].isna().to_numpy().all()
    assert history.nothing == dict.fromkeys(names, 1)
    assert (is_nothing(f" {word} "), read_text(word), read_id(word)) == (True, None, None)


@pytest.mark.parametrize("text", ["Nancy", "Nullarbor", "Na", "N", "None Street 5", "0", "nothing", "--- -"])
def test_other_texts_are_no_words_for_nothing(text):
    missing = text.lower() == "na"

    assert (read_text(text), read_id(text), is_nothing(text)) == (
        (None, None, True) if missing else (text, text, False)
    )


@pytest.mark.parametrize(("number", "plain"), [(7.0, "7"), (-7.0, "-7"), (0.0, "0"), (-0.0, "0"), (-120.0, "-120")])
@pytest.mark.parametrize("name", ["user_id", "charging_station_id"])
def test_an_id_is_one_id_in_csv_and_json(name, number, plain):
    row = {"charger_type": "A", "charging_start_time": "2024-01-01 10:00", name: number}
    csv = f"charger_type,charging_start_time,{name}\nA,2024-01-01 10:00,{number}\n"

    assert parse(csv).sessions[name].tolist() == parse(json.dumps(row)).sessions[name].tolist() == [plain]


def test_names_become_the_most_frequent_spelling():
    rows = ["Rapid", "rapid", "rapid", "RAPID", "Rapid\u00a050  kW", "Rapid 50 kW"]
    history = parse("charger_type,charging_start_time\n" + "".join(f"{text},2024-01-01 10:00\n" for text in rows))

    assert history.sessions["charger_type"].tolist() == ["rapid"] * 4 + ["Rapid 50 kW"] * 2
    assert history.folded == {"charger_type": {"Rapid": "rapid", "RAPID": "rapid", "Rapid\u00a050  kW": "Rapid 50 kW"}}


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace(",", "|"),
        "sep=;\n" + CSV.replace(",", ";"),
        "SEP=,\r\n" + CSV,
        "sep=\t\n" + CSV.replace(",", "\t"),
        '"sep=;"\n' + CSV.replace(",", ";"),
        "Site;Dundee\nFrom;2024-01-01\n" + CSV.replace(",", ";"),
        "Report of January\n\nMade on 2024-02-01, by hand\n" + CSV,
        "Report;;;\n;;;\n" + CSV.replace(",", ";"),
        CSV + ",,,\nTotal,,,4.5\n",
        CSV + ",,Total:,4.5\n",
        CSV + "Sum,,-,4.5\n",
        CSV + "Average,,,4.5\nGesamt,,,4.5\n",
        CSV.replace("\n", ",\n"),
        CSV.replace("\n", ",,\n"),
        json.dumps([ROW]),
        json.dumps([ROW], indent=2),
        json.dumps(ROW),
        json.dumps(ROW, indent=2),
        json.dumps({"sessions": [ROW]}),
        json.dumps({"count": 1, "sessions": [ROW]}, indent=1),
        json.dumps(ROW) + "\n\n",
        "\n" + json.dumps(ROW) + "\n",
    ],
)
def test_one_row_in_many_tables(text):
    history = parse(text)

    assert (history.rows, history.refused) == (1, [])
    is_the_row(history.sessions)


def test_lines_of_json_may_have_different_names_and_bad_lines_are_refused():
    lines = [json.dumps(ROW), "{", json.dumps({"charger_type": "A", "charging_start_time": None}), "[1]", "5"]

    history = parse("\n".join(lines))

    is_the_row(history.sessions)
    assert [(row.line, row.reason) for row in history.refused] == [
        (2, "is not a JSON object"),
        (3, "charging_start_time is empty"),
        (4, "is not a JSON object"),
        (5, "is not a JSON object"),
    ]


@pytest.mark.parametrize(
    "text",
    ["[1", "[[[", "{}", "[]", "[1, 2]", '{"a": [1], "b": [2]}', "[" * 100_000, '{"a":' * 100_000, '{"a": 1e999}'],
)
def test_other_json_is_refused(text):
    with pytest.raises(BadHistoryFile, match=r"JSON|no column"):
        parse(text)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", {}), ("utf-8-sig", {}), ("utf-8-sig", {"encoding": "utf-8"}), ("utf-16", {}),
     ("utf-32", {}),
     ("utf-16-le", {"encoding": "utf-16-le"}), ("cp1252", {"encoding": "cp1252"}), ("utf-16", {"encoding": "utf-16"})],
)  # fmt: skip
@pytest.mark.parametrize("text", [CSV, json.dumps([ROW], ensure_ascii=False), json.dumps(ROW, ensure_ascii=False)])
@pytest.mark.parametrize("zipped", [False, True])
def test_one_row_in_many_encodings(tmp_path, text, encoding, said, zipped):
    import gzip  # noqa: PLC0415

    data = text.replace("ann", "Zoë").encode(encoding)
    (tmp_path / "history").write_bytes(gzip.compress(data) if zipped else data)

    history = read_file(tmp_path / "history", wall_time=utc, choices=read_choices(None, (), **said))

    assert history.sessions["user_id"].tolist() == ["Zoë"]
    is_the_row(history.sessions.replace("Zoë", "ann"))


ODD = {
    "empty": (b"", "the first line is empty"),
    "only a mark": (b"\xff\xfe", "the first line is empty"),
    "only sep": (b"sep=;\n", "the first line is empty"),
    "one column": (b"user_id\nann\n", "no column charger_type .* the file has 1 column: 'user_id'"),
    "empty lines": (b"\n;;\nName;Plug\nann;A\n", "no column charger_type .* the file has 2 columns: 'Name', 'Plug'"),
    "columns": (",".join(f"c{n}" for n in range(100_000)).encode(), "the file has 100,000 columns: .* and 99,970 more"),
    "zeros": (b"\0" * 5_000, "is not UTF-8 text"),
    "one line": (b"x" * 3_000_000, "the line of column names cannot be read"),
    "page": (b"<!doctype html><title>Sign in</title>", "no column charger_type"),
    "xlsx": (b"PK\x03\x04" + b"x" * 99, "the Excel file or archive is damaged"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "this is an old Excel file .*; save the sheet as .xlsx or as CSV"),
    "no gzip": (b"\x1f\x8b" + b"x" * 50, "cannot be read: Unknown compression method"),
    "half a character": (CSV.encode("utf-16")[:-1], "is not utf-16-le text"),
    "no mark": (CSV.encode("utf-16-le"), "is not UTF-8 text; .* --encoding"),
    "bytes in JSON": (b'[{"user_id": "\xff"}]', "the file is not JSON in UTF-8"),
    "no parquet": (b"PAR1" * 3, "is damaged and cannot be read"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_told_in_a_sentence_with_its_name(tmp_path, kind):
    data, message = ODD[kind]
    (tmp_path / "odd.csv").write_bytes(data)

    with pytest.raises(BadHistoryFile, match=rf"^odd\.csv.*{message}") as caught:
        read_file(tmp_path / "odd.csv", wall_time=utc)

    assert len(caught.value.message) < 1_000


def test_a_folder_is_no_history(tmp_path):
    with pytest.raises(BadHistoryFile, match="this is no regular file"):
        read_file(tmp_path, wall_time=utc)


def test_very_long_cells_are_refused_and_cut_in_messages():
    history = parse(f"{CSV}ann,{'L' * 200_000},2024-01-01 10:00,5\nann,A,{'1' * 130_000},5\n{CSV.splitlines()[1]}\n")

    assert (len(history.sessions), [row.line for row in history.refused]) == (2, [3, 4])
    assert max(len(row.reason) for row in history.refused) < 200
    assert max(map(len, history.survey.first_values["charging_start_time"])) == 40
