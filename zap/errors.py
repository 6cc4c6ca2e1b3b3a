"""The one family of errors: what was wrong, which value, and what to do.

Every error knows how it looks over HTTP (`status_code`, `problem()`) and on the command line (`exit_code`).
"""

import re
from typing import Any, ClassVar


class ZapError(Exception):
    """Something that zap can explain. Its message is for whoever made the request or typed the command."""

    title: ClassVar[str] = "zap could not do this"
    status_code: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def problem(self) -> dict[str, Any]:
        """The error as problem details (RFC 9457)."""
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        return {
            "type": f"urn:zap:problem:{kind}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.message,
            **self.details,
        }


class InvalidSettings(ZapError):
    title = "A setting is not usable"
    exit_code = 2


class InvalidRequest(ZapError):
    """The body was read and some of it cannot be accepted; `errors` lists each place with a JSON pointer."""

    title = "The request has errors"
    status_code = 422
    exit_code = 2

    # A reply says this many; nobody mends more from one reply.
    SHOWN: ClassVar[int] = 100

    def __init__(self, errors: list[dict[str, str]]) -> None:
        more = len(errors) - self.SHOWN
        fields = ", ".join(error["pointer"] for error in errors[: self.SHOWN])
        said = f"{len(errors)} error{'s' * (len(errors) != 1)}: {fields}{f' and {more} more' * (more > 0)}"
        super().__init__(said, errors=errors[: self.SHOWN])


class MalformedJson(ZapError):
    title = "The body is not JSON"
    status_code = 400
    exit_code = 2


class MalformedCsv(ZapError):
    title = "This is not CSV"
    status_code = 400
    exit_code = 2


class UnusableFile(ZapError):
    """A file that cannot be read or written as what its name says."""

    title = "The file cannot be used"
    exit_code = 2


class BatchTooLarge(ZapError):
    """More rows or bytes than a batch may have; the message names the limit and its setting."""

    title = "The batch is too large"
    status_code = 413
    exit_code = 2


class UnsupportedMediaType(ZapError):
    title = "The body has a type that this route does not take"
    status_code = 415


class Unauthorized(ZapError):
    title = "The API key is missing or wrong"
    status_code = 401


class NotFound(ZapError):
    title = "Not found"
    status_code = 404
    exit_code = 20


class TrainingRunning(ZapError):
    title = "A training is running already"
    status_code = 409
    exit_code = 9


class TrainingCancelled(ZapError):
    """Somebody ended the training from outside; the version that served still does."""

    title = "The training was cancelled"
    status_code = 409
    exit_code = 22


class RunEnded(ZapError):
    title = "The training has ended already"
    status_code = 409
    exit_code = 23


class NotPromotable(ZapError):
    """A version that cannot serve, or none to go back to; what serves still does."""

    title = "The version cannot be put into production"
    status_code = 409
    exit_code = 24


class TrainingFailed(ZapError):
    """The training ended without a report: its process was stopped or crashed."""

    title = "The training did not finish"
    exit_code = 10


class UnusableHistory(ZapError):
    """Too little history, a single charger type, or tables that are not there."""

    title = "The history is not enough to train on"
    status_code = 422
    exit_code = 11


class NoModel(ZapError):
    title = "There is no model yet"
    status_code = 503
    exit_code = 12


class DamagedModel(ZapError):
    """The bytes of a model version are not those that were stored, or do not fit this code."""

    title = "The stored model cannot be used"
    status_code = 503
    exit_code = 13


class LogUnavailable(ZapError):
    """The request and its prediction could not be committed, so there is no answer."""

    title = "The prediction could not be logged"
    status_code = 503
    exit_code = 14


class DatabaseUnavailable(ZapError):
    title = "The database cannot be used"
    status_code = 503
    exit_code = 15


class TooBusy(ZapError):
    """Others are in front, and it takes too long to wait for them: the same request is answered later."""

    title = "Too much is asked at once"
    status_code = 503
    exit_code = 25


class DatabaseBehind(ZapError):
    title = "The database has to be upgraded"
    status_code = 503
    exit_code = 16


class DatabaseAhead(ZapError):
    title = "The database is newer than this zap"
    status_code = 503
    exit_code = 17


class AdoptionRefused(ZapError):
    """An existing database cannot be adopted without losing something; nothing was changed."""

    title = "The database cannot be adopted as it is"
    exit_code = 18


class NotReproduced(ZapError):
    """A stored answer, or the trees of a stored version, do not come out again."""

    title = "What is stored does not come out again"
    exit_code = 21


class BadHistoryFile(ZapError):
    """A history file with rows that cannot be imported; `refused` lists them with line number and reason."""

    title = "The history file has rows that cannot be imported"
    status_code = 422
    exit_code = 19
