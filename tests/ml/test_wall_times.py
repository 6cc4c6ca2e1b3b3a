"""Wall times that are read at once equal wall times that are read one by one."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zap.ml.cells import read_wall_time
from zap.ml.wall_times import read_wall_times

PLAIN = "2024-02-29T23:59:59"
# Texts near to a time: a time in which characters were replaced.
NEAR = st.builds(
    lambda time, sep, places, by: "".join(
        by[place % len(by)] if place in places else character for place, character in enumerate(time.isoformat(sep))
    ),
    st.datetimes(),
    st.sampled_from(" TtU"),
    st.sets(st.integers(0, 25), max_size=2),
    st.text("0123456789-: T.+Z\u0665\u00a0\0", min_size=1, max_size=3),
)
CELLS = st.one_of(NEAR, st.datetimes().map(str), st.none(), st.text(max_size=30), st.integers(), st.binary(max_size=20))


def one_by_one(cells):
    return np.array([read_wall_time(cell) for cell in cells], dtype="datetime64[s]")


@given(st.lists(CELLS, max_size=12))
@example([PLAIN, None, f"{PLAIN}.999999"])
def test_they_are_read_as_one_by_one(cells):
    found = read_wall_times(cells)

    assert found.dtype == np.dtype("datetime64[s]")
    np.testing.assert_array_equal(found, one_by_one(cells))


@pytest.mark.parametrize(
    "text",
    ["0000-01-01 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "1900-02-29 10:00:00", "2000-02-29 10:00:00",
     "2023-02-29 10:00:00", "2024-00-10 10:00:00", "2024-13-10 10:00:00", "2024-04-31 10:00:00", "2024-04-00 10:00:00",
     "2024-04-01 24:00:00", "2024-04-01 23:60:00", "2024-04-01 23:59:60", "2024-04-01 23:59:59,123456",
     "2024-04-01 23:59:59.12345 ", "2024-04-01 23:59:59+01:00", "2024/04/01 23:59:59", "2024-04-01 10:00:00\0",
     "2024-04-01 10:00:00" + 7 * "\0", "2024-04-01 10:00:00\0.12345", "2024-04-01 10:00:00.12345\0",
     "2024-04-01 1\u0660:00:00", "2024-04-01 10:00:00.1234567", "2024-04-01T10:00"],
)  # fmt: skip
def test_edges(text):
    np.testing.assert_array_equal(read_wall_times([PLAIN, text]), one_by_one([PLAIN, text]))
    assert read_wall_times([PLAIN])[0] == datetime.fromisoformat(PLAIN)
