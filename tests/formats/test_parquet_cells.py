"""Parquet files with broken texts and times: each bad row is refused with its reason, and never with a traceback."""

from contextlib import suppress

import pyarrow as pa
import pytest
from pyarrow import parquet

from zap.errors import UnusableFile
from zap.flows.history_import import read_file as read_history
from zap.formats.request_files import read_file
from zap.formats.request_rows import Refusal

LATE = 2**60
BROKEN = {
    "text": (pa.array([b"ann", b"\xff\xfe"]).view(pa.string()), "not a text in UTF-8"),
    "large text": (pa.array([b"ann", b"\xff"], pa.large_binary()).view(pa.large_string()), "not a text in UTF-8"),
    "seconds": (pa.array([0, 2**45], pa.int64()).view(pa.timestamp("s")), "years 1 to 9999"),
    "milliseconds": (pa.array([0, LATE], pa.int64()).view(pa.timestamp("ms", "UTC")), "years 1 to 9999"),
    "microseconds": (pa.array([0, -LATE], pa.int64()).view(pa.timestamp("us")), "years 1 to 9999"),
    "date": (pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()), "years 1 to 9999"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_with_a_broken_cell_is_refused(tmp_path, name):
    column, reason = BROKEN[name]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"charging_start_time": column, "temperature_c": [1.0, 2.0]}), path)

    with read_file(path) as source:
        good, bad = source.records

    assert isinstance(good.text, bytes)
    assert isinstance(bad.text, Refusal)
    assert [error["pointer"] for error in bad.text.errors] == ["#/charging_start_time"]
    assert reason in bad.text.errors[0]["detail"]
    # The other cells of the row are written to the output.
    assert bad.values == {"charging_start_time": None, "temperature_c": 2.0}


@pytest.mark.parametrize("name", [name for name in BROKEN if "text" not in name])
def test_a_session_with_a_broken_time_is_refused(tmp_path, name):
    column, reason = BROKEN[name]
    path = tmp_path / "history.parquet"
    parquet.write_table(pa.table({"charger_type": ["Level 1"] * 2, "charging_start_time": column}), path)

    history = read_history(path, wall_time=lambda moment: moment.replace(tzinfo=None))

    assert [row.line for row in history.refused if reason in row.reason] == [2]


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.9, 0.99])
def test_a_damaged_file_is_told_in_a_sentence(tmp_path, place):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"user_id": [f"u{n}" for n in range(5000)], "temperature_c": [1.5] * 5000}), path)
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 40] = b"\xff" * len(content[start : start + 40])
    path.write_bytes(content)

    # Damage inside the numbers cannot be noticed.
    with suppress(UnusableFile), read_file(path) as source:
        list(source.records)
