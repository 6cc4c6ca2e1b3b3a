"""Excel files as people have them."""

import builtins
import zipfile
from datetime import date, datetime, time, timedelta
from math import isnan

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from zap.errors import BadHistoryFile
from zap.flows.history_import import import_report, read_file
from zap.formats.history_choices import read_choices


def moment(*numbers):
    return datetime(*numbers)  # noqa: DTZ001 - cells have wall times


HEADER = ["Driver", "Charger Type", "Start Time", "End Time", "Energy (kWh)", "SOC start"]
START = moment(2024, 1, 31, 9, 5)
ROW = ["ann", "Level 2", START, moment(2024, 1, 31, 11, 40, 30), 12.5, 80]


def write(path, *rows, title="Sheet", formats=None, change=None):
    """Write rows as a sheet. `formats` gives cells such as C2 a number format; `change` is called with the book."""
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    for place, number_format in (formats or {}).items():
        book.active[place].number_format = number_format
    if change:
        change(book)
    book.save(path)
    return path


def change_part(path, *changes):
    """Replace bytes in the first sheet of a file."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    for old, new in changes:
        assert old in parts["xl/worksheets/sheet1.xml"]
        parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(old, new)
    archive(**parts)(path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "history.xlsx"


def read(path, mapping=(), **said):
    return read_file(
        path, wall_time=lambda moment: moment.replace(tzinfo=None), choices=read_choices(None, mapping, **said)
    )


def sessions(path, **said):
    history = read(path, **said)
    assert history.refused == []
    return history.sessions


def starts(path, **said):
    return [str(start) for start in sessions(path, **said)["charging_start_time"]]


def test_it_works(file):
    """Read a sheet with texts, numbers, a percentage, and dates."""
    write(file, HEADER, [*ROW[:5], 0.8], formats={"F2": "0%"})

    (session,) = sessions(file).to_dict("records")

    assert {name: str(value) for name, value in session.items() if name in {"user_id", "charger_type"}} == {
        "user_id": "ann",
        "charger_type": "Level 2",
    }
    assert (str(session["charging_start_time"]), str(session["charging_end_time"])) == (
        "2024-01-31 09:05:00",
        "2024-01-31 11:40:30",
    )
    assert (session["energy_consumed_kwh"], session["state_of_charge_start"]) == (12.5, 80)


def epoch_1904(book):
    book.epoch = CALENDAR_MAC_1904


def merged_title(book):
    book.active.insert_rows(1, 2)
    book.active["A1"] = "Sessions of January"
    book.active.merge_cells("A1:F1")


def empty_rows(book):
    book.active.insert_rows(2, 3)
    book.active["A900"].number_format = "0.00"


def total(book):
    book.active.append(["Total", None, None, None, 12.5])


def beside(book):
    book.active["H1"] = "checked by"
    book.active["J2"] = "Bob"


def wide_size(book):
    book.active["Z50"] = " "


@pytest.mark.parametrize("change", [None, epoch_1904, merged_title, empty_rows, total, beside, wide_size])
def test_one_row_in_many_sheets(file, change):
    write(file, HEADER, ROW, change=change)

    (session,) = sessions(file).to_dict("records")

    assert (session["user_id"], session["energy_consumed_kwh"]) == ("ann", 12.5)
    assert str(session["charging_end_time"]) == "2024-01-31 11:40:30"


def test_a_formula_has_the_value_that_the_file_keeps(file):
    write(file, HEADER, ["ann", "Level 2", START, "=C2+2/24", "=5*2.5"], formats={"D2": "dd/mm/yyyy hh:mm"})
    change_part(
        file, (b"<f>5*2.5</f><v", b"<f>5*2.5</f><v>12.5</v><v"), (b"2/24</f><v", b"2/24</f><v>45322.461805555556</v><v")
    )

    (session,) = sessions(file).to_dict("records")

    assert session["energy_consumed_kwh"] == 12.5
    assert str(session["charging_end_time"]) == "2024-01-31 11:05:00"


def test_formulas_without_a_value_and_merged_rows_are_told(file):
    def merge(book):
        merged_title(book)
        book.active.merge_cells("A3:A4")
        book.active.merge_cells("A5:A7")

    write(file, HEADER, ["ann", "A", START, None, "=5*2.5"], [], [None, "A", START, None, "=1"], change=merge)

    told = read(file).survey.notes

    assert "2 cells with a formula but no value, read as empty; open the file in a spreadsheet program" in told[0]
    assert told[1:] == [
        "cells are merged over several rows: A5:A7; only their first row has their value",
        "left out 1 line above the names of the columns",
    ]


@pytest.mark.parametrize(
    ("cells", "start"),
    [
        ([START], "2024-01-31 09:05:00"),
        ([date(2024, 1, 31)], "2024-01-31 00:00:00"),
        # 9:04:59.998, as a program writes it that keeps few decimals.
        ([moment(2024, 1, 31, 9, 4, 59, 998_000)], "2024-01-31 09:05:00"),
        (["31/01/2024 9:05"], "2024-01-31 09:05:00"),
        ([date(2024, 1, 31), time(9, 5)], "2024-01-31 09:05:00"),
        ([moment(2024, 1, 31), timedelta(hours=9, minutes=5)], "2024-01-31 09:05:00"),
        ([START, START], "2024-01-31 09:05:00"),
        (["31/01/2024", "9:05 AM"], "2024-01-31 09:05:00"),
        ([date(2024, 1, 31), "1899-12-30 09:05:00"], "2024-01-31 09:05:00"),
    ],
)
def test_one_start_in_many_cells(file, cells, start):
    write(file, ["Charger Type", "Start Date", "Start Time"][: 1 + len(cells)], ["A", *cells])

    assert starts(file) == [start]


def test_a_date_without_a_time_of_day_is_told(file):
    write(file, ["Charger Type", "Start"], ["A", date(2024, 1, 31)], ["A", START])

    assert read(file).survey.date_only == {"charging_start_time": 1}


@pytest.mark.parametrize(
    ("name", "value", "number_format", "number"),
    [
        ("SOC start", 0.07, "0.00%", 7),
        ("SOC start", 0.333, "0%", 33.3),
        ("SOC start", 80, '0"%"', 80),
        ("SOC start", 80, "General", 80),
        ("kWh", 12, "General", 12),
        ("kWh", 0.1, "0", 0.1),
        ("kWh", "12.5 kWh", "General", 12.5),
        ("kWh", "12,5", "General", 12.5),
        ("kWh", 12.5, '#,##0.00 "kWh"', 12.5),
        ("kWh", -4.5, "[Red]0.0", -4.5),
        ("Duration (hours)", timedelta(hours=26, minutes=30), "[h]:mm", 26.5),
        ("Duration (hours)", time(2, 30), "hh:mm", 2.5),
    ],
)
def test_numbers_of_cells(file, name, value, number_format, number):
    write(file, ["Charger Type", "Start", name], ["A", START, value], formats={"C2": number_format})

    (session,) = sessions(file).to_dict("records")

    found = [value for value in session.values() if isinstance(value, float) and not isnan(value)]
    assert found == [pytest.approx(number, rel=1e-15)]


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (4e12, "4000000000000"), ("007", "007"), (True, "True")])
def test_a_driver_of_a_number_cell(file, value, text):
    write(file, ["Driver", "Charger Type", "Start"], [value, "A", START])

    assert sessions(file)["user_id"].tolist() == [text]


def test_an_error_is_a_missing_value_and_a_line_end_is_a_space(file):
    write(file, ["Charger\nType", "Start", "kWh"], ["Level\n2", START, "#DIV/0!"], ["A", "#REF!", 1])

    history = read(file)

    assert history.sessions["charger_type"].tolist() == ["Level 2"]
    assert history.nothing == {"charging_start_time": 1, "energy_consumed_kwh": 1}
    assert [(row.line, row.reason) for row in history.refused] == [(3, "charging_start_time is '#N/A': no value")]


def test_the_line_of_a_bad_row_is_its_row_in_the_sheet(file):
    write(file, ["Sessions"], [], HEADER, [], ROW, ["ann", "Level 2", "soon"])

    assert [row.line for row in read(file).refused] == [6]


def more_sheets(book):
    book.create_sheet("Prices").append(["kWh", "EUR"])
    book.create_sheet("Old").append(["Charger Type", "Start"])
    book["Old"].append(["B", moment(2023, 1, 31)])
    book.create_sheet("Nothing")
    book.create_sheet("Empty", 0)
    book.create_sheet("Hidden", 0).append(["x"])
    book["Hidden"].sheet_state = "hidden"


def test_the_first_visible_sheet_with_data_is_read_and_the_others_are_named(file):
    write(file, HEADER, ROW, title="New", change=more_sheets)

    history = read(file)

    assert history.sessions["charger_type"].tolist() == ["Level 2"]
    assert (
        "read the sheet 'New'; to read another sheet, name it with --sheet: 'Prices', 'Old'"
        in import_report(file, history).notes
    )


def test_a_sheet_is_chosen_by_its_name(file):
    write(file, HEADER, ROW, title="New", change=more_sheets)

    assert sessions(file, sheet="old")["charger_type"].tolist() == ["B"]
    with pytest.raises(BadHistoryFile, match="--sheet 'Oold' is not in the file; its sheets are 'Hidden', 'Empty', 'N"):
        read(file, sheet="Oold")


def test_a_sheet_without_the_columns_names_the_other_sheets(file):
    write(
        file, ["Read me"], ["Made in January"], title="About", change=lambda book: book.create_sheet("Data").append([1])
    )

    with pytest.raises(
        BadHistoryFile,
        match=r"no column charger_type .*read the sheet .About.; to read another sheet, name it with --sheet: .Data.",
    ):
        read(file)


def test_a_sheet_of_a_text_file_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("charger_type,charging_start_time\n")

    with pytest.raises(BadHistoryFile, match="this is no Excel file, so it has no sheet 'A'; leave out --sheet"):
        read(tmp_path / "history.csv", sheet="A")


def test_titles_above_names_that_only_the_user_knows_are_left_out(file):
    write(file, ["Sessions of January"], ["Plug", "Began"], ["A", START])

    history = read(file, mapping=["Plug=charger_type", "Began=charging_start_time"])

    assert (len(history.sessions), history.survey.notes) == (1, ["left out 1 line above the names of the columns"])


def test_dates_beside_texts_that_are_dates_are_asked_for(file):
    """A program of another country makes 04/05/2024 a date with day and month exchanged, and leaves 31/05/2024."""
    write(file, ["Charger Type", "Start"], ["A", moment(2024, 4, 5, 9, 5)], ["A", "31/05/2024 9:05"])

    with pytest.raises(BadHistoryFile, match="may have exchanged days and months"):
        read(file)
    assert starts(file, date_format="day-first") == ["2024-04-05 09:05:00", "2024-05-31 09:05:00"]


def archive(**parts):
    def make(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, text in parts.items():
                file.writestr(name.replace("__", "/"), text)

    return make


def bomb(path):
    """Make a file of 40 kB with 40 MB of spaces in one part."""
    archive(**{"xl__workbook.xml": "<workbook/>"})(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open("xl/styles.xml", "w") as part:
        for _ in range(40):
            part.write(b" " * 2**20)


def cut(path):
    write(path, HEADER, ROW)
    path.write_bytes(path.read_bytes()[:-200])


def far_row(path):
    write(path, HEADER, ROW)
    change_part(path, (b'r="2"', b'r="99999999999"'))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (archive(a="b"), "this is an archive; unpack it, and import the files that are in it"),
        (archive(), "this is an archive"),
        (archive(**{"content.xml": "", "mimetype": "x"}), "a spreadsheet of a kind that zap cannot read; save"),
        (
            archive(**{"xl__workbook.bin": ""}),
            "a spreadsheet of a kind that zap cannot read; save the sheet as .xlsx or",
        ),
        (archive(**{"xl__workbook.xml": "<"}), "the Excel file is damaged"),
        (archive(**{"xl__workbook.xml": "<workbook/>", "[Content_Types].xml": "<a/>"}), "the Excel file is damaged"),
        (bomb, "xl/styles.xml in the Excel file has 41,943,040 bytes, and zap reads at most 33,554,432"),
        (cut, "damaged"),
        (far_row, "the sheet 'Sheet' has more than 1,048,576 rows"),
        (write, "no visible sheet of the Excel file has data; its sheets are 'Sheet'"),
    ],
)
def test_another_archive_is_told_in_a_sentence(file, make, message):
    make(file)

    with pytest.raises(BadHistoryFile, match=rf"^history\.xlsx: .*{message}") as caught:
        read(file)

    assert len(caught.value.message) < 300


def test_without_openpyxl_a_sentence_says_how_to_install_it(file, monkeypatch):
    write(file, HEADER, ROW)
    real = builtins.__import__

    def without(name, *rest):
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(
        BadHistoryFile, match=r"openpyxl, which is not installed: run pip install openpyxl .*zap\[excel"
    ):
        read(file)


def test_nothing_stays_in_the_temporary_folder(file, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    write(file, HEADER, ROW)

    read(file)

    assert list((tmp_path / "temporary").iterdir()) == []
