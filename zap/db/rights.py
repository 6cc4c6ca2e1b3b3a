"""The rights to tables and sequences that a role on PostgreSQL lacks."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# PostgreSQL's error code for a missing right.
_INSUFFICIENT_PRIVILEGE = "42501"
_JOINED = {"SELECT": "SELECT from", "INSERT": "INSERT into", "USAGE": "USAGE of"}


class MissingRight(NamedTuple):
    """A right that a role lacks.

    Attributes:
        right: SELECT, INSERT or USAGE.
        name: the table or sequence, quoted where SQL needs this.
    """

    right: str
    name: str

    def __str__(self) -> str:
        """Return the right in words, such as `INSERT into predictions`."""
        return f"{_JOINED[self.right]} {self.name}"


def lacks_right(error: BaseException | None) -> bool:
    """Return whether an error of the database says that the role lacks a right."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE


def missing_rights(connection: Connection, read: Sequence[str], numbered: Mapping[str, str]) -> list[MissingRight]:
    """Return the rights that the role of a connection lacks.

    Args:
        connection: a connection of the role.
        read: the tables that the role must be able to select from.
        numbered: the tables that the role must be able to insert into, each with its column with a sequence.
    """
    rights = text(
        "SELECT 'SELECT', quote_ident(name) FROM unnest(CAST(:read AS text[])) AS name"
        " WHERE NOT has_table_privilege(quote_ident(name), 'SELECT')"
        " UNION ALL SELECT 'INSERT', quote_ident(name) FROM unnest(CAST(:names AS text[])) AS name"
        " WHERE NOT has_any_column_privilege(quote_ident(name), 'INSERT')"
        " UNION ALL SELECT 'USAGE', pg_get_serial_sequence(quote_ident(name), key)"
        " FROM unnest(CAST(:names AS text[]), CAST(:keys AS text[])) AS numbered (name, key)"
        " WHERE NOT has_sequence_privilege(pg_get_serial_sequence(quote_ident(name), key), 'USAGE, UPDATE')"
    )
    found = connection.execute(rights, {"read": list(read), "names": list(numbered), "keys": list(numbered.values())})
    return [MissingRight(*row) for row in found]


def grants(connection: Connection, missing: Sequence[MissingRight]) -> str:
    """Return the statements of SQL that give the role of a connection the rights that it lacks.

    Args:
        connection: a connection of the role.
        missing: the rights, in the order of `missing_rights`.
    """
    role = connection.scalar(text("SELECT quote_ident(current_user)"))
    return " ".join(
        f"GRANT {right} ON {'SEQUENCE ' if right == 'USAGE' else ''}{', '.join(one.name for one in some)} TO {role};"
        for right, some in groupby(missing, lambda one: one.right)
    )
