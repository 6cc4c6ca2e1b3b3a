"""The rows of a table: their order on both engines, and how many are in memory at once."""

import pytest
from sqlalchemy import insert

from zap.db.engine import write_transaction
from zap.db.moving.connections import reading
from zap.db.moving.differences import paired
from zap.db.moving.odd_cells import OddCells
from zap.db.moving.table_rows import TableRows
from zap.db.tables import InferenceInput, User, utc_now

TREAT = OddCells(sqlite=True, refuses=True).treat


def test_texts_have_the_order_of_their_bytes(engine, database_url):
    names = ["b", "B", "a", "é", "z", "Z", "", "🚗", "ä", "a b", "ab", "10", "9"]
    with write_transaction(engine) as connection:
        connection.execute(insert(User), [{"user_id": name} for name in names])

    with reading(database_url) as connection:
        rows = TableRows(connection, User.__table__, TREAT)
        found = [rows.key_of(row)[0] for row in rows.after()]
        later = [rows.key_of(row)[0] for row in rows.after(("a b",))]

    assert found == sorted(names)
    assert later == found[found.index("a b") + 1 :]


@pytest.mark.parametrize(("size", "portion"), [(10, 5000), (2**20, 4), (2**23, 1)])
def test_few_rows_are_in_memory_if_rows_are_large(engine, database_url, size, portion):
    with write_transaction(engine) as connection:
        row = {"request_timestamp": utc_now(), "input_data_json": "x" * size}
        connection.execute(insert(InferenceInput), [row] * (1000 if size == 10 else 14))

    with reading(database_url) as connection:
        rows = TableRows(connection, InferenceInput.__table__, TREAT)
        assert len(list(rows.after())) == (1000 if size == 10 else 14)

    assert portion - 1 <= rows.portion <= portion


def test_rows_are_paired_by_their_keys_until_the_target_ends():
    source = [(1, "a"), (2, "b"), (4, "d"), (6, "f")]
    target = [(0, "z"), (2, "other"), (4, "d"), (5, "e")]

    found = list(paired(iter(source), iter(target), lambda row: row[:1]))

    assert found == [
        (None, (0, "z")),
        ((1, "a"), None),
        ((2, "b"), (2, "other")),
        ((4, "d"), (4, "d")),
        (None, (5, "e")),
    ]
