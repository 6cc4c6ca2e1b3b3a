"""The check of a database that a newer zap has upgraded: this zap can use it if the upgrade made only additions."""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import CheckConstraint, Column, Connection, Inspector, Table, inspect
from sqlmodel import SQLModel

# Imported so that SQLModel.metadata holds the tables.
from zap.db import audit_tables as _audit_tables  # noqa: F401
from zap.db import erasure_tables as _erasure_tables  # noqa: F401
from zap.db import key_tables as _key_tables  # noqa: F401
from zap.db import login_tables as _login_tables  # noqa: F401
from zap.db import monitoring_tables as _monitoring_tables  # noqa: F401
from zap.db import tables as _tables  # noqa: F401

_LITERAL = re.compile(r"'([^']*)'")


def changes(connection: Connection) -> list[str]:
    """Return the differences that keep this code from using a database; none if the database only has additions.

    Additions are further tables and indexes, and columns that a row may leave out. All tables and columns that this
    code reads must exist, and the rows that it writes must be accepted.
    """
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    found: list[str] = []
    for table in SQLModel.metadata.sorted_tables:
        if table.name in there:
            found += _columns(inspector, table)
            found += _constraints(inspector, table)
        else:
            found.append(f"the table {table.name} is missing")
    return found


def _columns(inspector: Inspector, table: Table) -> Iterator[str]:
    theirs: dict[str, Any] = {column["name"]: column for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name not in theirs:
            yield f"{table.name} has no column {column.name}"
        elif not _is_alike(inspector, column, theirs[column.name]["type"]):
            yield f"{table.name}.{column.name} has the type {theirs[column.name]['type']}"
        elif column.nullable and not theirs[column.name]["nullable"]:
            yield f"{table.name}.{column.name} must not be NULL, and this zap writes NULL"
        elif theirs[column.name].get("computed") or (theirs[column.name].get("identity") or {}).get("always"):
            yield f"{table.name}.{column.name} is computed by the database, and this zap writes it"
        elif _is_shorter(column, theirs[column.name]["type"]):
            yield f"{table.name}.{column.name} holds only {theirs[column.name]['type'].length} characters"
    for name, other in theirs.items():
        if name not in table.columns and _is_required(other):
            yield f"{table.name}.{name} must have a value, and this zap does not know the column"
    key = [column.name for column in table.primary_key.columns]
    if inspector.get_pk_constraint(table.name)["constrained_columns"] != key:
        yield f"{table.name} has another primary key"


def _is_alike(inspector: Inspector, column: Column[Any], theirs: Any) -> bool:
    """Return whether the values of two column types have one Python type; their widths do not matter."""
    ours = column.type.dialect_impl(inspector.dialect)
    # WallTime and Stamp are stored as a type of the database: compare that one.
    ours = getattr(ours, "impl_instance", ours)
    try:
        return ours.python_type is theirs.python_type
    except NotImplementedError:
        return False


def _is_shorter(column: Column[Any], theirs: Any) -> bool:
    ours, length = getattr(column.type, "length", None), getattr(theirs, "length", None)
    return length is not None and (ours is None or length < ours)


def _is_required(column: Any) -> bool:
    has_value = column.get("default") is not None or column.get("computed") or column.get("identity")
    return not column["nullable"] and not has_value


def _conditions(check: str) -> int:
    return 1 + len(re.findall(r"\bAND\b", check, re.IGNORECASE))


def _constraints(inspector: Inspector, table: Table) -> Iterator[str]:
    known = {str(one.name): str(one.sqltext) for one in table.constraints if isinstance(one, CheckConstraint)}
    for check in inspector.get_check_constraints(table.name):
        said = str(check["sqltext"])
        if (name := str(check["name"])) in known:
            # A check with further values still accepts all values that this code writes.
            fewer = not set(_LITERAL.findall(known[name])) <= set(_LITERAL.findall(said))
            if fewer or _conditions(said) > _conditions(known[name]):
                yield f"{table.name} has another check {name}: {said}"
        elif any(re.search(rf"\b{re.escape(column)}\b", said) for column in table.columns.keys()):  # noqa: SIM118
            yield f"{table.name} has a check that this zap does not know, {name}: {said}"
    indexes = {str(index.name) for index in table.indexes}
    uniques: list[Any] = [one for one in inspector.get_indexes(table.name) if one["unique"]]
    uniques += inspector.get_unique_constraints(table.name)
    for unique in uniques:
        # An index with a new column is allowed: this code's rows have NULL there, and NULLs never conflict.
        names = unique["column_names"]
        if unique["name"] not in indexes and all(name in table.columns for name in names):
            yield f"{table.name} has a unique index that this zap does not know, of {', '.join(map(str, names))}"
    keys = {tuple(key.column_keys) for key in table.foreign_key_constraints}
    for foreign in inspector.get_foreign_keys(table.name):
        columns = foreign["constrained_columns"]
        if tuple(columns) not in keys and all(name in table.columns for name in columns):
            yield f"{table.name} has a foreign key that this zap does not know, of {', '.join(columns)}"
