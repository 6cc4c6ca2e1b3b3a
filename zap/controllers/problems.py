"""Errors over HTTP: everything that goes wrong leaves as problem details (RFC 9457)."""

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import SQLAlchemyError

from zap.controllers.schemas import Problem
from zap.errors import DatabaseUnavailable, ZapError
from zap.ml.json_body import pointer

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
DOES_NOT_ANSWER = "the database does not answer; the log says why"
UNAVAILABLE = DatabaseUnavailable("").problem()["type"]


def problem_specs(*statuses: int) -> dict[int, ResponseSpec]:
    """For a handler's `responses`: the errors that it may answer with, as the OpenAPI document shows them."""
    return {
        status: ResponseSpec(
            Problem, description=HTTPStatus(status).phrase, media_type=MEDIA_TYPE, generate_examples=False
        )
        for status in statuses
    }


def problem_of(request: Request[Any, Any, Any], error: Exception) -> dict[str, Any]:
    """The problem details of an error, for a reply that has begun already; the log has it as for any other."""
    if isinstance(error, ZapError):
        return _zap_error(request, error).content
    if isinstance(error, SQLAlchemyError):
        return _database_error(request, error).content
    return _unexpected(request, error).content


def _zap_error(request: Request[Any, Any, Any], error: ZapError) -> Response[dict[str, Any]]:
    problem = error.problem()
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("refused", problem=problem["type"], reason=error.message, exc_info=error.__cause__)
    if problem["type"] == UNAVAILABLE:
        # The reason names addresses and files: it is for the log.
        problem["detail"] = DOES_NOT_ANSWER
    headers = {"Retry-After": "1"} if error.status_code == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return _problem(request, problem, headers)


def _http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(request, error)
    details: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": _DETAILS.get(status, error.detail),
    }
    if extra := error.extra if isinstance(error.extra, list) else None:
        details["errors"] = [{"pointer": pointer(one.get("key", "")), "detail": one["message"]} for one in extra]
    return _problem(request, details, dict(error.headers or {}))


def _database_error(request: Request[Any, Any, Any], error: SQLAlchemyError) -> Response[dict[str, Any]]:
    unavailable = DatabaseUnavailable(type(error).__name__)
    unavailable.__cause__ = error
    return _zap_error(request, unavailable)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    log.error("unexpected error", exc_info=error)
    details = {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": HTTPStatus.INTERNAL_SERVER_ERROR,
        "detail": "zap could not answer; the log says why under this request_id",
    }
    return _problem(request, details, {})


def _problem(
    request: Request[Any, Any, Any], details: dict[str, Any], headers: dict[str, str]
) -> Response[dict[str, Any]]:
    content = {**details, "request_id": request.scope.get("state", {}).get("request_id", "")}
    return Response(content, status_code=details["status"], media_type=MEDIA_TYPE, headers=headers)


_DETAILS = {
    HTTPStatus.NOT_FOUND: "there is nothing here; /docs lists what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take that method; /docs lists what there is",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than this route accepts",
}

EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    ZapError: _zap_error,
    HTTPException: _http_exception,
    SQLAlchemyError: _database_error,
    Exception: _unexpected,
}
