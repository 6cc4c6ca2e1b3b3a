"""The one family of errors: each message says what is wrong, which value, and what to do.

Every error knows its form over HTTP (`status_code`, `problem()`) and on the command line (`exit_code`).
"""

import re
from typing import Any, ClassVar, Self

# What clients are told about a database that fails. The reason names addresses and files, so it goes to the log only.
DOES_NOT_ANSWER = "the database does not answer; the log says why"


class ZapError(Exception):
    """An error that zap can explain. The message is for the person who sent the request or typed the command."""

    title: ClassVar[str] = "zap could not do this"
    status_code: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def problem(self) -> dict[str, Any]:
        """Return the error as problem details (RFC 9457)."""
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        return {
            "type": f"urn:zap:problem:{kind}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.message,
            **self.details,
        }


class CommandError(ZapError):
    """An error that only commands have. Its problem details have no HTTP status, because it is not sent over HTTP."""

    def problem(self) -> dict[str, Any]:
        """Return the error as problem details (RFC 9457) without `status`."""
        return {name: value for name, value in super().problem().items() if name != "status"}


class InvalidSettings(CommandError):
    """A setting has a value that zap cannot use."""

    title = "A setting is not usable"
    exit_code = 2


class InvalidRequest(ZapError):
    """Some values of the request cannot be accepted. `errors` lists each of them with a JSON pointer."""

    title = "The request has errors"
    status_code = 422
    exit_code = 2

    # A reply lists at most this many errors: a person does not correct more from one reply.
    SHOWN: ClassVar[int] = 100

    def __init__(self, errors: list[dict[str, str]]) -> None:
        more = len(errors) - self.SHOWN
        fields = ", ".join(error["pointer"] for error in errors[: self.SHOWN])
        said = f"{len(errors)} error{'s' * (len(errors) != 1)}: {fields}{f' and {more} more' * (more > 0)}"
        super().__init__(said, errors=errors[: self.SHOWN])


class MalformedJson(ZapError):
    """The body cannot be parsed as JSON."""

    title = "The body is not JSON"
    status_code = 400
    exit_code = 2


class MalformedCsv(ZapError):
    """The body or file cannot be parsed as CSV."""

    title = "The data is not CSV"
    status_code = 400
    exit_code = 2


class UnusableFile(CommandError):
    """A file cannot be read or written in the format that its name ends with."""

    title = "The file cannot be used"
    exit_code = 2


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


class FollowerRunning(CommandError):
    """Another process follows the log. It does all that this command would do."""

    title = "Another process follows already"
    exit_code = 31


class AlarmNotDelivered(CommandError):
    """The receiver of ZAP_ALARM_URL cannot be reached, or has not accepted a test message."""

    title = "The message was not delivered"
    exit_code = 32


class CannotServe(CommandError):
    """The server cannot listen on its address and port."""

    title = "The server cannot start"
    exit_code = 3


class BatchTooLarge(ZapError):
    """A batch has more rows or bytes than it may have. The message names the limit and its setting."""

    title = "The batch is too large"
    status_code = 413
    exit_code = 2


class UnsupportedMediaType(ZapError):
    """The Content-Type of the body is not one that the route accepts."""

    title = "The body has a type that this route does not accept"
    status_code = 415


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed, which no route accepts."""

    title = "The body is compressed"


class ClientLeft(ZapError):
    """The client closed the connection before it had sent the whole request. No answer can be sent."""

    title = "The request is incomplete"
    # The status that nginx writes to its log in this case; it is never sent.
    status_code = 499


class UnknownHost(ZapError):
    """The Host header names a host that this server does not serve. The request is refused unread."""

    title = "zap does not answer under this host name"
    status_code = 421


class CrossSiteRequest(ZapError):
    """A page of another site made a browser send the request."""

    title = "A page of another site may not change anything here"
    status_code = 403


class FormRefused(ZapError):
    """A form of a page was sent without the token of the page, or with a token of an earlier visit."""

    title = "The form was not accepted"
    status_code = 403


class Unauthorized(ZapError):
    """The request needs the API key and does not carry it."""

    title = "The API key is missing or wrong"
    status_code = 401


class NotFound(ZapError):
    """There is no resource with this path or number."""

    title = "Not found"
    status_code = 404
    exit_code = 20


class SessionTaken(ZapError):
    """The ids of reported sessions belong to other sessions. `errors` lists each of them with a JSON pointer."""

    title = "The id belongs to another session"
    status_code = 409

    def __init__(self, errors: list[dict[str, str]]) -> None:
        many = len(errors) != 1
        said = (
            f"{len(errors)} session{'s' * many} of the report {'have ids' if many else 'has an id'} of another session"
        )
        super().__init__(said, errors=errors[: InvalidRequest.SHOWN])


class TrainingRunning(ZapError):
    """Another training is running; zap runs one at a time."""

    title = "A training is already running"
    status_code = 409
    exit_code = 9


class TrainingCancelled(ZapError):
    """The training was cancelled by a person or a signal. The version in production is unchanged."""

    title = "The training was cancelled"
    status_code = 409
    exit_code = 22

    @classmethod
    def by_signal(cls, number: int) -> Self:
        """Return the error of a training that a signal ends. Its exit code is the one that shells use for the signal.

        Args:
            number: the number of the signal, such as 2 for Ctrl-C (exit code 130) or 15 for SIGTERM (143).
        """
        error = cls("the training was told to stop; the version in production is unchanged")
        # The exit code is set on the instance, because it depends on the signal.
        error.exit_code = 128 + number  # type: ignore[misc]
        return error


class RunEnded(ZapError):
    """The training run cannot be cancelled because it has already ended."""

    title = "The training has already ended"
    status_code = 409
    exit_code = 23


class NotPromotable(ZapError):
    """A version cannot serve, or there is no version to roll back to. The version in production is unchanged."""

    title = "The version cannot be put into production"
    status_code = 409
    exit_code = 24


class TrialRefused(ZapError):
    """A trial of a version cannot begin. Nothing was changed."""

    title = "The trial cannot begin"
    status_code = 409
    exit_code = 33


class TrainingFailed(ZapError):
    """The training ended without a report, because its process was stopped or crashed."""

    title = "The training did not finish"
    exit_code = 10


class TrainingLimited(ZapError):
    """The training needed more memory or time than the settings allow. The version in production is unchanged."""

    title = "The training exceeded its memory or time limit"
    exit_code = 26

    @classmethod
    def of_memory(cls, most_bytes: int) -> Self:
        """Return the error of a training that needed more memory than it may use.

        Args:
            most_bytes: the memory that it may use.
        """
        return cls(
            f"the training needed more than the {most_bytes:,} bytes of memory that it may use (ZAP_TRAINING_MEMORY);"
            " train on fewer sessions (history_from) or fewer charger types, or raise the setting"
        )

    @classmethod
    def of_time(cls, seconds: float) -> Self:
        """Return the error of a training that took longer than it may.

        Args:
            seconds: how long it may take.
        """
        return cls(
            f"the training took longer than the {seconds:,g} seconds that it may take (ZAP_TRAINING_SECONDS);"
            " train on fewer sessions (history_from), leave out windows, nested or tune, or raise the setting"
        )


class UnusableHistory(ZapError):
    """The history has too few sessions, a single charger type, or missing tables."""

    title = "The history is not enough to train on"
    status_code = 422
    exit_code = 11


class NoModel(ZapError):
    """No model version is in production yet."""

    title = "There is no model yet"
    status_code = 503
    exit_code = 12


class DamagedModel(ZapError):
    """The bytes of a model version differ from the bytes that were stored, or this code cannot use them."""

    title = "The stored model cannot be used"
    status_code = 503
    exit_code = 13


class LogUnavailable(ZapError):
    """The request and its prediction could not be committed, so no prediction is sent."""

    title = "The prediction could not be logged"
    status_code = 503
    exit_code = 14


class DatabaseUnavailable(ZapError):
    """The database cannot be reached, cannot be opened, or takes too long."""

    title = "The database cannot be used"
    status_code = 503
    exit_code = 15


class NoRight(ZapError):
    """zap's database role lacks the right that this request needs. Other requests may still be answered."""

    title = "The database does not let zap do this"
    status_code = 403
    exit_code = 28


class DatabaseReplaced(ZapError):
    """The path of the SQLite file that this process opened now leads to another file, or to none."""

    title = "The database file is not the one that was opened"
    status_code = 503
    exit_code = 15


class TooBusy(ZapError):
    """The request would have to wait too long for requests before it. The client can send it again later."""

    title = "The server is busy"
    status_code = 503
    exit_code = 25


class ServerStopping(ZapError):
    """The server was told to stop: the request did not end within the last seconds, or would begin a training."""

    title = "The server is stopping"
    status_code = 503


class TooSlow(ZapError):
    """The client sent nothing for too long in the middle of a request."""

    title = "The request did not arrive in time"
    status_code = 408


class DatabaseBehind(ZapError):
    """The database's schema is older than this code needs."""

    title = "The database has to be upgraded"
    status_code = 503
    exit_code = 16


class DatabaseAhead(ZapError):
    """The database's schema was upgraded by a newer zap, which this code does not know."""

    title = "The database is newer than this zap"
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


class NotReproduced(CommandError):
    """A stored prediction, or the trees of a stored version, could not be reproduced."""

    title = "The stored result could not be reproduced"
    exit_code = 21


class BadHistoryFile(CommandError):
    """A history file cannot be imported. `refused` lists its bad rows, if it has any, with line number and reason."""

    title = "The history file cannot be imported"
    exit_code = 19
