"""Errors of a request: what its client should send instead."""

from typing import ClassVar

from zap.errors.family import ZapError
from zap.sentences import phrase, say, say_many


class InvalidRequest(ZapError):
    """Some values of the request cannot be accepted. `errors` lists each of them with a JSON pointer."""

    title = phrase("The request has errors")
    status_code = 422
    exit_code = 2

    # A reply lists at most this many errors: a person does not correct more from one reply.
    SHOWN: ClassVar[int] = 100

    def __init__(self, errors: list[dict[str, str]]) -> None:
        more = len(errors) - self.SHOWN
        fields = ", ".join(error["pointer"] for error in errors[: self.SHOWN])
        shown = say("{names:s} and {more:d} more", names=fields, more=more) if more > 0 else fields
        said = say_many("{n} error: {fields}", "{n} errors: {fields}", len(errors), fields=shown)
        super().__init__(said, errors=errors[: self.SHOWN])


class MalformedJson(ZapError):
    """The body cannot be parsed as JSON."""

    title = phrase("The body is not JSON")
    status_code = 400
    exit_code = 2


class MalformedCsv(ZapError):
    """The body or file cannot be parsed as CSV."""

    title = phrase("The data is not CSV")
    status_code = 400
    exit_code = 2


class BatchTooLarge(ZapError):
    """A batch has more rows or bytes than it may have. The message names the limit and its setting."""

    title = phrase("The batch is too large")
    status_code = 413
    exit_code = 2


class UnsupportedMediaType(ZapError):
    """The Content-Type of the body is not one that the route accepts."""

    title = phrase("The body has a type that this route does not accept")
    status_code = 415


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed, which no route accepts."""

    title = phrase("The body is compressed")


class ClientLeft(ZapError):
    """The client closed the connection before it had sent the whole request. No answer can be sent."""

    title = phrase("The request is incomplete")
    # The status that nginx writes to its log in this case; it is never sent.
    status_code = 499


class TooSlow(ZapError):
    """The client sent nothing for too long in the middle of a request."""

    title = phrase("The request did not arrive in time")
    status_code = 408


class UnknownHost(ZapError):
    """The Host header names a host that this server does not serve. The request is refused unread."""

    title = phrase("zap does not answer under this host name")
    status_code = 421


class CrossSiteRequest(ZapError):
    """A page of another site made a browser send the request."""

    title = phrase("A page of another site may not change anything here")
    status_code = 403


class FormRefused(ZapError):
    """A form of a page was sent without the token of the page, or with a token of an earlier visit."""

    title = phrase("The form was not accepted")
    status_code = 403


class Unauthorized(ZapError):
    """The request needs a key, and carries none, a wrong one, or one that has ended."""

    title = phrase("The key is missing, wrong or has ended")
    status_code = 401


class NotFound(ZapError):
    """There is no resource with this path or number."""

    title = phrase("Not found")
    status_code = 404
    exit_code = 20


class SessionTaken(ZapError):
    """The ids of reported sessions belong to other sessions. `errors` lists each of them with a JSON pointer."""

    title = phrase("The id belongs to another session")
    status_code = 409

    def __init__(self, errors: list[dict[str, str]]) -> None:
        many = len(errors) != 1
        said = (
            f"{len(errors)} session{'s' * many} of the report {'have ids' if many else 'has an id'} of another session"
        )
        super().__init__(said, errors=errors[: InvalidRequest.SHOWN])
