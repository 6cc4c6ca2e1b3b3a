"""Errors that only commands have: of settings, files and output, and of what stands or runs already."""

from zap.errors.family import CommandError


class InvalidSettings(CommandError):
    """A setting has a value that zap cannot use."""

    title = "A setting is not usable"
    exit_code = 2


class CheckFailed(CommandError):
    """`zap check` has found errors, or with --strict warnings. The command itself worked."""

    title = "The check has found something"
    exit_code = 55


class LibraryMissing(CommandError):
    """A library of the operating system that a package needs cannot be loaded."""

    title = "A library of the system is missing"
    exit_code = 56


class UnusableFile(CommandError):
    """A file cannot be read or written in the format that its name ends with."""

    title = "The file cannot be used"
    exit_code = 2


class BadHistoryFile(CommandError):
    """A history file cannot be imported. `refused` lists its bad rows, if it has any, with line number and reason."""

    title = "The history file cannot be imported"
    exit_code = 19


class OutputFailed(CommandError):
    """Standard output cannot take what the command prints."""

    title = "The output cannot be written"
    exit_code = 29


class NotConfirmed(CommandError):
    """The command asks before it changes data, and nobody has said yes. Nothing was changed."""

    title = "This needs a confirmation"
    exit_code = 34


class AlarmStands(CommandError):
    """An alarm stands: something is still wrong. It is no failure of the command."""

    title = "An alarm stands"
    exit_code = 30


class AlarmNotDelivered(CommandError):
    """The receiver of ZAP_ALARM_URL cannot be reached, or has not accepted a test message."""

    title = "The message was not delivered"
    exit_code = 32


class FollowerRunning(CommandError):
    """Another process follows the log. It does all that this command would do."""

    title = "Another process follows already"
    exit_code = 31
