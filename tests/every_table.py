"""Rows in every table of zap, with values at the edges of what both engines hold."""

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    Integer,
    LargeBinary,
    insert,
)

from zap.db.audit_chain import EMPTY, HEAD_ID, Head, hash_of
from zap.db.audit_tables import AuditHead, AuditRow
from zap.db.engine import write_transaction
from zap.db.moving.moved_tables import moved_tables
from zap.db.stored_json import StoredJson
from zap.db.tables import Stamp, WallTime

# "B" comes before "a" by bytes, and after it in most languages. The tab, the backslash and \N mean something in COPY.
TEXTS = ("B", "a", "Zoë 🚗", "tab\tnew\nline\\N ' \"", "")
FLOATS = (0.1, -0.0, 1e308, 5e-324, -273.15)
JSONS = ({"b": 1, "a": [None, True, 0.1]}, {}, {"ü": "\\u0000 'x'", "n": 1e22}, {"x": {"y": {"z": []}}}, {"a": 1})
START = datetime(2026, 3, 29, 1, 59, 58, 123456)  # noqa: DTZ001 - wall time


def fill_every_table(engine, rows=5):
    """Add rows to every table that is copied."""
    with write_transaction(engine) as connection:
        for table in moved_tables():
            if table.name not in {"audit", "audit_head"}:
                connection.execute(insert(table), [_row(table, number) for number in range(rows)])
        _fill_audit(connection, rows)


def _fill_audit(connection, rows):
    """Add rows to the audit, which are a chain with a head."""
    audit, before = AuditRow.__table__, EMPTY
    for number in range(rows):
        row = _row(audit, number) | {"audit_id": number + 1, "previous_hash": before.hash}
        before = Head(number + 1, hash_of(row))
        connection.execute(insert(audit), row | {"hash": before.hash})
    connection.execute(insert(AuditHead), {"head_id": HEAD_ID, "count": before.rows, "hash": before.hash})


def _row(table, number):
    return {column.name: _value(table, column, number) for column in table.columns}


def _value(table, column, number):
    if column.foreign_keys:
        return 10 * (number + 1)
    if table.name == "follower" and column.primary_key:
        return number + 1
    if (allowed := _allowed(table, column)) is not None:
        return allowed[min(number, len(allowed) - 1)]
    unique = column.primary_key or any(column.name in index.columns for index in table.indexes if index.unique)
    if not unique and column.nullable and number == 4:
        return None
    return _of_type(column, number, unique=unique)


def _of_type(column, number, *, unique):
    largest = 2**63 - 1 if isinstance(column.type, BigInteger) else 2**31 - 1
    # Gaps between the ids; other numbers at the edges.
    whole = 10 * (number + 1) if unique else (largest, -largest - 1, 0, 7, -1)[number % 5]
    of_types = (
        (Stamp, START.replace(tzinfo=UTC) + timedelta(days=number)),
        (WallTime, START.replace(microsecond=0) + timedelta(days=number)),
        ((JSON, StoredJson), JSONS[number % 5]),
        (LargeBinary, (bytes(range(256)), b"", b"\0", b"\\x41", b"%")[number % 5]),
        (Boolean, number % 2 == 0),
        (Float, FLOATS[number % 5]),
        (Integer, whole),
    )
    text = TEXTS[number % 5] + (str(number) if number >= 5 else "")
    return next((value for kind, value in of_types if isinstance(column.type, kind)), text)


def _allowed(table, column):
    """Return the values that a check of the table allows in the column; None if there is no check."""
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint):
            found = re.fullmatch(rf"{column.name} IN \((.*)\)", str(constraint.sqltext))
            if found:
                return [_literal(one) for one in found[1].split(", ")]
    return None


def _literal(text):
    return text[1:-1] if text.startswith("'") else int(text)
