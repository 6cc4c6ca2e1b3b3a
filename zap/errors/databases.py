"""Errors of the database and of its schema."""

from zap.errors.family import CommandError, ZapError
from zap.sentences import phrase, say

# What clients are told about a database that fails. The reason names addresses and files, so it goes to the log only.
DOES_NOT_ANSWER = say("the database does not answer; the log says why")


class LogUnavailable(ZapError):
    """The request and its prediction could not be committed, so no prediction is sent."""

    title = phrase("The prediction could not be logged")
    status_code = 503
    exit_code = 14


class VersionReplaced(LogUnavailable):
    """The version that has answered may have been rolled back before its answer could be sent, so it is not sent."""

    title = phrase("The model version does not serve any more")
    status_code = 503
    exit_code = 14


class DatabaseUnavailable(ZapError):
    """The database cannot be reached, cannot be opened, or takes too long."""

    title = phrase("The database cannot be used")
    status_code = 503
    exit_code = 15


class NoRight(ZapError):
    """zap's database role lacks the right that this request needs. Other requests may still be answered."""

    title = phrase("The database does not let zap do this")
    status_code = 403
    exit_code = 28


class DatabaseReplaced(ZapError):
    """The path of the SQLite file that this process opened now leads to another file, or to none."""

    title = phrase("The database file is not the one that was opened")
    status_code = 503
    exit_code = 15


class DamagedRow(ZapError):
    """A stored row has another form than zap gave it: another program has changed it."""

    title = "A stored row cannot be read"
    status_code = 503
    exit_code = 35


class DatabaseBehind(ZapError):
    """The database's schema is older than this code needs."""

    title = phrase("The database has to be upgraded")
    status_code = 503
    exit_code = 16


class DatabaseAhead(ZapError):
    """The database's schema was upgraded by a newer zap, which this code does not know."""

    title = phrase("The database is newer than this zap")
    status_code = 503
    exit_code = 17


class AdoptionRefused(CommandError):
    """An existing database cannot be adopted without losing data. Nothing was changed."""

    title = "The database cannot be adopted as it is"
    exit_code = 18


class UpgradeBlocked(CommandError):
    """Other connections keep a table locked that the upgrade has to change. Servers go on serving."""

    title = "The upgrade cannot lock the database"
    exit_code = 27


class DatabaseInUse(CommandError):
    """Another program, such as a server, uses the database. The command needs it alone. Nothing was changed."""

    title = "Another program uses the database"
    exit_code = 40


class DatabaseNotEmpty(CommandError):
    """The database would be overwritten, but it has rows already. Nothing was changed."""

    title = "The database is not empty"
    exit_code = 41


class UnsoundDatabase(CommandError):
    """The database has broken rows. `findings` has a sentence for each kind."""

    title = "The database has broken rows"
    exit_code = 42


class DamagedBackup(CommandError):
    """A file is no backup of a database of zap, or its content has changed since it was made. Nothing was changed."""

    title = "The backup cannot be restored"
    exit_code = 43


class AuditBroken(CommandError):
    """A row of the audit was changed, removed or inserted, or a hash that was written down is missing.

    `row` is the number of the first broken row.
    """

    title = "The audit is not whole"
    exit_code = 44


class DiskTooSmall(CommandError):
    """The disk has too little free space for what the command would write. Nothing was changed."""

    title = "The disk has too little space"
    exit_code = 45
