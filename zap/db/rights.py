"""The rights to tables and sequences that a role on PostgreSQL lacks."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text


def missing_rights(connection: Connection, read: Sequence[str], numbered: Mapping[str, str]) -> list[str]:
    """Return the rights that the role of a connection lacks, such as `INSERT into predictions`.

    Args:
        connection: a connection of the role.
        read: the tables that the role must be able to select from.
        numbered: the tables that the role must be able to insert into, each with its column with a sequence.
    """
    rights = text(
        "SELECT 'SELECT from ' || name FROM unnest(CAST(:read AS text[])) AS name"
        " WHERE NOT has_table_privilege(quote_ident(name), 'SELECT')"
        " UNION ALL SELECT 'INSERT into ' || name FROM unnest(CAST(:names AS text[])) AS name"
        " WHERE NOT has_any_column_privilege(quote_ident(name), 'INSERT')"
        " UNION ALL SELECT 'USAGE of ' || pg_get_serial_sequence(quote_ident(name), key)"
        " FROM unnest(CAST(:names AS text[]), CAST(:keys AS text[])) AS numbered (name, key)"
        " WHERE NOT has_sequence_privilege(pg_get_serial_sequence(quote_ident(name), key), 'USAGE, UPDATE')"
    )
    found = connection.scalars(rights, {"read": list(read), "names": list(numbered), "keys": list(numbered.values())})
    return list(found)
