"""Say why a database cannot be used: the reason once, with advice that fits the reason."""

import re
import sqlite3

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from zap.errors import DatabaseUnavailable

_LOCKED = "Another program keeps it locked: end that program, or try again later"
_FILE = "Check ZAP_DATABASE_URL, and that zap may read and write the file and its folder"
_DISK = "Make room on the disk, then try again"
_OF_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_NOTADB: "Check that ZAP_DATABASE_URL names the right file",
    sqlite3.SQLITE_CORRUPT: "Restore a backup",
    sqlite3.SQLITE_FULL: _DISK,
    sqlite3.SQLITE_CANTOPEN: _FILE,
    sqlite3.SQLITE_PERM: _FILE,
    sqlite3.SQLITE_READONLY: _FILE,
    sqlite3.SQLITE_IOERR: "Check the disk and its file system",
}
# The advice by the SQLSTATE of PostgreSQL's answer to a statement.
_OF_STATEMENTS = {
    "55P03": _LOCKED,
    "57014": _LOCKED,
    "40P01": "Try again",
    "53100": _DISK,
    "25006": "The server takes no changes, because it is a standby or default_transaction_read_only is set: check"
    " ZAP_DATABASE_URL",
}
# The advice by the message if there is no connection, because psycopg then has no code. The first pattern that fits
# is used.
_OF_CONNECTIONS = (
    (r'database ".*" does not exist', "Create this database, or correct its name in ZAP_DATABASE_URL"),
    (
        r"authentication|password|pg_hba|role \".*\" does not exist",
        "Check the user and the password in ZAP_DATABASE_URL, and that the server accepts this user",
    ),
    (r"starting up|shutting down|too many|connection slots", "Try again later"),
    (
        r"refused|timeout|timed out|resolve|No route|unreachable|No such file|closed the connection",
        "Check that the server runs, and the host and the port in ZAP_DATABASE_URL",
    ),
    (r"", "Check the host, the port, the user and the name of the database in ZAP_DATABASE_URL"),
)


def unusable(url: URL, error: Exception) -> DatabaseUnavailable:
    """Return zap's error for an error of the database driver or the system.

    Args:
        url: of the database.
        error: the error that was raised. If zap has no advice for this error, the message has only the reason.
    """
    shown = url.render_as_string(hide_password=True)
    return DatabaseUnavailable(". ".join(filter(None, (f"{shown}: {reason_of(error)}", _advice(error)))))


def reason_of(error: Exception) -> str:
    """Return the first line of what the database driver or the system says."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _advice(error: Exception) -> str | None:
    driver = getattr(error, "orig", None) or error
    if isinstance(driver, sqlite3.Error):
        return _OF_SQLITE.get(getattr(driver, "sqlite_errorcode", 0) & 0xFF)
    if isinstance(driver, OSError):
        return _FILE
    if isinstance(error, DBAPIError) and error.statement is None:
        return next(advice for pattern, advice in _OF_CONNECTIONS if re.search(pattern, str(driver)))
    return _OF_STATEMENTS.get(getattr(driver, "sqlstate", None) or "")
