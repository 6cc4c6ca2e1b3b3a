"""Files as people have them: what each file of the shared cases gives."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from zap.errors import BadHistoryFile
from zap.flows.history_import import import_report, read_file
from zap.formats.history_choices import read_choices

# What is said on the command line, and then for each column its values, in the order of the rows. A row that is refused
# is not there.
READ = {
    "spreadsheet_day_first.csv": (
        {},
        {
            "user_id": ["U1", "U1"],
            "charger_type": ["Level 2", "DC Fast Charger"],
            "charging_start_time": ["2024-01-31 09:05", "2024-02-01 18:20"],
            "charging_end_time": ["2024-01-31 11:40", "2024-02-01 18:52"],
            "energy_consumed_kwh": [12.5, 30.0],
            "temperature_c": [-3.5, 2.0],
            "user_type": ["Commuter", "Commuter"],
        },
    ),
    "spreadsheet_month_first.csv": (
        {},
        {
            "charging_start_time": ["2024-01-31 09:05", "2024-02-01 18:20"],
            "charging_end_time": ["2024-01-31 11:40", "2024-02-01 18:52"],
            "energy_consumed_kwh": [12.5, 30.0],
        },
    ),
    "date_beside_time.csv": (
        {"date_format": "day-first"},
        {
            "user_id": ["d1", "d1"],
            "charger_type": ["AC 7 kW", "Rapid"],
            "charging_start_time": ["2023-05-04 20:26", "2023-05-06 08:10"],
            "charging_end_time": ["2023-05-04 23:03", "2023-05-06 08:38"],
            "energy_consumed_kwh": [17.5, 22.1],
        },
    ),
    "date_only.csv": ({}, {"charging_start_time": ["2024-01-01 00:00"], "energy_consumed_kwh": [5.0]}),
    "decimal_comma.csv": ({}, {"charging_start_time": ["2024-01-01 10:00"], "energy_consumed_kwh": [12.5]}),
    "nbsp_class.csv": (
        {},
        {
            "charger_type": ["Level 2"] * 6,
            "charging_start_time": [f"2024-01-01 {hour}:00" for hour in range(10, 16)],
        },
    ),
    "null_words.csv": ({}, {"user_id": ["ann"], "charger_type": ["Level 2"], "energy_consumed_kwh": [5.0]}),
    "pandas_index.csv": ({}, {"user_id": ["ann"], "charger_type": ["Level 2"], "energy_consumed_kwh": [5.0]}),
    "single_digit_hour.csv": ({}, {"charging_start_time": ["2024-01-01 09:05"], "energy_consumed_kwh": [5.0]}),
    # Both sessions last twenty minutes, also where the wall clock says 80 or -40.
    "spring_change.csv": (
        {},
        {
            "charging_start_time": ["2024-03-31 00:50", "2024-10-27 01:50"],
            "charging_end_time": ["2024-03-31 02:10", "2024-10-27 01:10"],
            "charging_duration_hours": [1 / 3, 1 / 3],
        },
    ),
    "trailing_comma_all.csv": ({}, {"user_id": ["ann"], "energy_consumed_kwh": [5.0]}),
    # The parser keeps both sessions; the database decides whether they are one.
    "two_sessions_one_minute.csv": (
        {},
        {
            "charger_type": ["Rapid", "AC 22 kW"],
            "charging_start_time": ["2023-05-04 20:26"] * 2,
            "charging_end_time": ["2023-05-04 20:54", "2023-05-04 23:03"],
            "energy_consumed_kwh": [12.5, 17.5],
        },
    ),
    "ongoing_beside_ended.csv": (
        {},
        {
            "charger_type": ["Rapid", "AC 22 kW"],
            "charging_end_time": ["2023-05-04 20:54", None],
            "energy_consumed_kwh": [42.5, None],
        },
    ),
}
# What is said of each file.
TOLD = {
    "spreadsheet_day_first.csv": [
        "dates such as '31/01/2024 9:05' are read with the day first, because this date has no other meaning",
        "charging_start_time: '31/01/2024 9:05' is read as 2024-01-31 09:05:00",
        "numbers are read with a decimal comma",
    ],
    "spreadsheet_month_first.csv": ["dates such as '1/31/2024 9:05' are read with the month first"],
    "date_beside_time.csv": [
        "user_id driver 'd1'",
        "dates such as '04/05/2023 20:26:00' are read with the day first, as --date-format says",
        "charging_start_time: '04/05/2023 20:26:00' is read as 2023-05-04 20:26:00",
    ],
    "date_only.csv": ["charging_start_time: 1 date without a time of day, read as 00:00"],
    "nbsp_class.csv": [
        "charger_type: 5 spellings read as another spelling",
        r"'Level\xa02' as 'Level 2'",
        "'Level  2' as 'Level 2'",
        r"'Level 2\u200b' as 'Level 2'",
        "'level 2' as 'Level 2'",
        "'LEVEL 2' as 'Level 2'",
    ],
    "null_words.csv": [
        "user_id: 5 words for a missing value",
        "energy_consumed_kwh: 1 word for a missing value",
        "cannot import 5 of 6 rows: 5 rows, first line 3: charger_type is 'NULL': no value",
    ],
    "spring_change.csv": ["charging_start_time: '2024-03-31T00:50:00+00:00' is read as 2024-03-31 00:50:00"],
    "pandas_index.csv": ["ignored columns: 'column 1, which has no name'"],
}


def in_london(moment):
    return moment.astimezone(ZoneInfo("Europe/London")).replace(tzinfo=None)


def read(path, mapping=(), **said):
    return read_file(path, wall_time=in_london, choices=read_choices(None, mapping, **said))


def as_written(value):
    """Return a value as the table above has it."""
    if pd.isna(value):
        return None
    return format(value, "%Y-%m-%d %H:%M") if isinstance(value, datetime) else value


@pytest.mark.parametrize("name", READ)
def test_a_file_gives_the_right_values(import_cases, name):
    said, columns = READ[name]

    sessions = read(import_cases / name, **said).sessions

    found = {column: [as_written(value) for value in sessions[column]] for column in columns}
    assert found == {
        column: [pytest.approx(value) if isinstance(value, float) else value for value in values]
        for column, values in columns.items()
    }


@pytest.mark.parametrize("name", TOLD)
def test_what_was_decided_is_told(import_cases, name):
    said, _ = READ[name]

    lines = list(import_report(import_cases / name, read(import_cases / name, **said)).lines())

    told = " ".join(" ".join(lines).split())
    assert [line for line in TOLD[name] if " ".join(line.split()) not in told] == []
    assert max(map(len, lines)) <= 80


def test_every_case_is_in_the_table(import_cases):
    assert {path.name for path in import_cases.iterdir()} <= set(READ)


def test_only_the_words_for_nothing_refuse_rows(import_cases):
    refused = {name: read(import_cases / name, **said).refused for name, (said, _) in READ.items()}

    assert {name: [row.line for row in rows] for name, rows in refused.items() if rows} == {
        "null_words.csv": [3, 4, 5, 6, 7]
    }


def test_dates_that_nothing_decides_are_asked_for(import_cases):
    mapping = ["driver=user_id", "connector=charger_type", "start date+start time=charging_start_time"]

    with pytest.raises(BadHistoryFile, match=r"date_beside_time\.csv: charging_start_time '04/05/2023 20:26:00' can"):
        read(import_cases / "date_beside_time.csv", mapping)

    assert [
        str(read(import_cases / "date_beside_time.csv", mapping, date_format=order).sessions["charging_start_time"][0])
        for order in ("day-first", "month-first")
    ] == ["2023-05-04 20:26:00", "2023-04-05 20:26:00"]
