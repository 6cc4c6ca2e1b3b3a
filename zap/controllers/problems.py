"""Errors over HTTP: every error is sent as problem details (RFC 9457)."""

import errno
from collections.abc import Collection
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy.exc import SQLAlchemyError

from zap.db.rights import lacks_right
from zap.errors import DOES_NOT_ANSWER, DatabaseUnavailable, LimitReached, NoRight, UnsupportedEncoding, ZapError
from zap.flows.training_report import Dropped, LeftOutTypes
from zap.formats.json_body import pointer
from zap.formats.refusal_reasons import refusal_counts, too_large
from zap.public import public_path
from zap.sentences import phrase, say

log = structlog.get_logger(__name__)

# The name of the field of a problem that has the path of the training run that is already running.
TRAINING_RUN = "training_run"
# Messages of libraries are cut, because they may quote all that a client sent.
_LONGEST_DETAIL = 200
_COUNTED = "counted_refusals"
# How msgspec begins the error of a text that is not among the accepted ones.
_NOT_AMONG = "Invalid enum value "
MEDIA_TYPE = "application/problem+json"
UNAVAILABLE = DatabaseUnavailable("").problem()["type"]


class CountedRefusals(NamedTuple):
    """The `opt` of a route whose refusals are counted: what is refused, and the names that count as fields."""

    subject: str
    fields: frozenset[str]


def counts_refusals(subject: str, fields: Collection[str]) -> dict[str, Any]:
    """Return the `opt` of a route, so that its refused requests are counted by field and reason."""
    return {_COUNTED: CountedRefusals(subject, frozenset(fields))}


class FieldError(Struct, omit_defaults=True):
    pointer: Annotated[str, Meta(description="JSON pointer to the field", examples=["#/temperature_c"])]
    detail: str
    line: Annotated[
        int | None, Meta(description="in CSV: the line on which the row begins; the column names are on line 1")
    ] = None


class Problem(Struct, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: Annotated[str, Meta(examples=["urn:zap:problem:invalid-request"])]
    title: str
    status: int
    detail: str
    request_id: Annotated[
        str | UnsetType, Meta(description="the same id is in the log; left out if the request did not arrive in time")
    ] = UNSET
    errors: Annotated[list[FieldError] | None, Meta(description="every bad field of the request")] = None
    training_run: Annotated[
        str | None,
        Meta(description="the path of the training run that is already running", examples=["/training-runs/7"]),
    ] = None
    run_id: Annotated[
        int | None, Meta(description="the number of the training run that is already running, or has already ended")
    ] = None
    model_versions: Annotated[
        list[int] | None, Meta(description="of a conflict about model versions: the versions that are in the way")
    ] = None
    needed_scopes: Annotated[
        list[str] | None, Meta(description="of a key that may not do this: the scopes that it lacks")
    ] = None
    dropped: Annotated[Dropped | None, Meta(description="of a history with too few usable sessions")] = None
    left_out_types: Annotated[LeftOutTypes | None, Meta(description="of a history with too few usable sessions")] = None
    line: Annotated[int | None, Meta(description="of NDJSON: the first line that is not answered")] = None


def problem_specs(*statuses: int) -> dict[int, ResponseSpec]:
    """Return a handler's `responses` for the OpenAPI document: the errors that it may answer with."""
    return {
        status: ResponseSpec(
            Problem, description=HTTPStatus(status).phrase, media_type=MEDIA_TYPE, generate_examples=False
        )
        for status in statuses
    }


def problem_of(request: Request[Any, Any, Any], error: Exception) -> dict[str, Any]:
    """Return the problem details of an error for a reply that has already begun, and log the error."""
    if isinstance(error, ZapError):
        return _zap_error(request, error).content
    if isinstance(error, SQLAlchemyError):
        return _database_error(request, error).content
    return _unexpected(request, error).content


def _counted(request: Request[Any, Any, Any]) -> CountedRefusals | None:
    handler: Any = request.scope.get("route_handler")
    counted: CountedRefusals | None = handler and handler.opt.get(_COUNTED)
    return counted


def _zap_error(request: Request[Any, Any, Any], error: ZapError) -> Response[dict[str, Any]]:
    if counted := _counted(request):
        request.app.state.refusals.note(counted.subject, refusal_counts(error, counted.fields))
    problem = {"status": error.status_code, **error.problem()}
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("refused", problem=problem["type"], reason=error.message, exc_info=error.__cause__)
    if problem["type"] == UNAVAILABLE:
        # The reason names addresses and files, so only the log contains it.
        problem["detail"] = DOES_NOT_ANSWER
    headers = dict(_HEADERS.get(error.status_code, ()))
    if isinstance(error, LimitReached):
        headers |= error.headers
    if isinstance(error, UnsupportedEncoding):
        headers["Accept-Encoding"] = "identity"
    if run := problem.get(TRAINING_RUN):
        problem[TRAINING_RUN] = headers["Location"] = public_path(request.scope, run)
    return _problem(request, problem, headers)


def _http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(request, error)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and (counted := _counted(request)):
        request.app.state.refusals.note(counted.subject, too_large())
    details: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": (
            _DETAILS[status].format(docs=public_path(request.scope, "/docs")) if status in _DETAILS else error.detail
        )[:_LONGEST_DETAIL],
    }
    if extra := error.extra if isinstance(error.extra, list) else None:
        details["errors"] = [_parameter_error(request, one.get("key", ""), one["message"]) for one in extra]
    return _problem(request, details, dict(error.headers or {}))


def _parameter_error(request: Request[Any, Any, Any], key: str, message: str) -> dict[str, str]:
    """Return the error of a parameter under its name in the query, with the texts that it may have."""
    handler: Any = request.scope.get("route_handler")
    field = handler and handler.parsed_fn_signature.parameters.get(key)
    if field and field.is_literal and message.startswith(_NOT_AMONG):
        message = say(
            "is {value}; must be one of {choices:s}",
            value=message.removeprefix(_NOT_AMONG),
            choices=", ".join(field.args),
        )
    name = field and field.kwarg_definition and getattr(field.kwarg_definition, "name", None)
    return {"pointer": pointer(name or key), "detail": message[:_LONGEST_DETAIL]}


def _database_error(request: Request[Any, Any, Any], error: SQLAlchemyError) -> Response[dict[str, Any]]:
    if lacks_right(error):
        # Not DatabaseUnavailable, which would tell the client to try again.
        refused = NoRight(say("zap's database role lacks the right to do this; the log says which right"))
        refused.__cause__ = error
        log.error("the database role lacks a right", reason=str(error.__cause__))
        return _zap_error(request, refused)
    unavailable = DatabaseUnavailable(type(error).__name__)
    unavailable.__cause__ = error
    return _zap_error(request, unavailable)


def unreadable_file(request: Request[Any, Any, Any], error: InternalServerException) -> Response[dict[str, Any]]:
    """Return the problem of a file that Litestar could not read: 404 if the file's name is too long, otherwise 500."""
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG:
        return _http_exception(request, NotFoundException())
    return _unexpected(request, error)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    log.error("unexpected error", exc_info=error)
    details = {
        "type": "about:blank",
        "title": phrase("Internal Server Error"),
        "status": HTTPStatus.INTERNAL_SERVER_ERROR,
        "detail": say("zap could not answer because of an unexpected error; the log has it under this request_id"),
    }
    return _problem(request, details, {})


def _problem(
    request: Request[Any, Any, Any], details: dict[str, Any], headers: dict[str, str]
) -> Response[dict[str, Any]]:
    content = {**details, "request_id": request.scope.get("state", {}).get("request_id", "")}
    return Response(content, status_code=details["status"], media_type=MEDIA_TYPE, headers=headers)


# Reply headers by status, from which a client's program knows what to do.
_HEADERS: dict[int, dict[str, str]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'ApiKey realm="zap", Bearer realm="zap"'},
}
_DETAILS = {
    HTTPStatus.NOT_FOUND: phrase("there is no resource at this path; {docs} lists the routes"),
    HTTPStatus.METHOD_NOT_ALLOWED: phrase("this path does not accept this method; {docs} lists the routes"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: phrase("the body is larger than this route accepts"),
}

EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    ZapError: _zap_error,
    HTTPException: _http_exception,
    SQLAlchemyError: _database_error,
    Exception: _unexpected,
}
