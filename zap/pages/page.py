"""How a page is answered: its content is read and rendered in a thread, and a form is read with its token."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from litestar import MediaType, Request, Response
from litestar.datastructures import Cookie

from zap.db.read_replica import ReadReplica
from zap.errors import FormRefused, InvalidRequest, UnsupportedMediaType
from zap.pages.reader import Reader, read_reader
from zap.pages.templates import rendered
from zap.public import PAGE_SECURITY_POLICY
from zap.sentences import say
from zap.server.bodies import read_body

# The field of a form with its token.
TOKEN = "token"  # noqa: S105 - the name of the field
_LARGEST_FORM = 65_536
_MOST_FIELDS = 200
_FORM = "application/x-www-form-urlencoded"
PAGE_HEADERS = {
    "Content-Security-Policy": PAGE_SECURITY_POLICY,
    # Pages name drivers in their addresses.
    "Referrer-Policy": "same-origin",
    "Vary": "Cookie, Accept-Language",
}


async def answer(
    request: Request[Any, Any, Any],
    template: str,
    read: Callable[[], Mapping[str, Any]] = dict,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    """Return a page.

    Args:
        request: the request for it.
        template: the file name of its template.
        read: reads what the template shows. It is called in a thread.
        status: the HTTP status.
        headers: more headers.

    Raises:
        ZapError, SQLAlchemyError: the errors of `read`. They are shown as a page.
    """
    reader = read_reader(request)
    body = await request.app.state.page_threads.run(_page, reader, template, read)
    return Response(
        body,
        status_code=status,
        media_type=MediaType.HTML,
        headers={**PAGE_HEADERS, **(headers or {})},
        cookies=reader.cookies(),
    )


async def answer_reading(
    request: Request[Any, Any, Any], template: str, read: Callable[..., Mapping[str, Any]], *arguments: Any
) -> Response[bytes]:
    """Return a page that only reads the database: from the replica, if there is one.

    Args:
        request: the request for it.
        template: the file name of its template.
        read: reads what the template shows from an engine, with `arguments`. It is called in a thread.
        arguments: the arguments of `read` after the engine.

    Raises:
        ZapError, SQLAlchemyError: the errors of `read`. They are shown as a page.
    """
    reads: ReadReplica = request.app.state.reads

    def content() -> Mapping[str, Any]:
        shown, age = reads.read_with_age(read, *arguments)
        return {**shown, "read_age": age}

    return await answer(request, template, content)


def _page(reader: Reader, template: str, read: Callable[[], Mapping[str, Any]]) -> bytes:
    return rendered(reader, template, read())


def see_other(request: Request[Any, Any, Any], path: str, cookies: Sequence[Cookie] = ()) -> Response[None]:
    """Return the reply to a form: the browser goes on to a page of zap, and a reload does not send the form again.

    Args:
        request: the request with the form.
        path: the path of the page, without the prefix. A path that leads elsewhere is replaced by `/`.
        cookies: cookies to set.
    """
    reader = read_reader(request)
    headers = {"Location": reader.path(own_path(path)), "Content-Security-Policy": PAGE_SECURITY_POLICY}
    return Response(None, status_code=303, headers=headers, cookies=list(cookies))


def own_path(path: str) -> str:
    r"""Return a path from outside if it is surely a path of this server, otherwise `/`.

    Browsers read `//host` and `/\host` as the address of another server, and remove tabs and ends of lines.
    """
    is_own = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable()
    return path if is_own and "\\" not in path else "/"


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a form of zap's own pages. If a field was sent twice, the last one counts.

    Raises:
        FormRefused: the form does not have the token of this browser's login or visit.
        ZapError: the errors of `read_fields`.
    """
    fields = await read_fields(request)
    reader, sent = read_reader(request), fields.pop(TOKEN, "")
    if reader.is_new or not hmac.compare_digest(sent.encode(), reader.token.encode()):
        raise FormRefused(
            say("the page is older than the login or the visit of this browser; open it again, and send it")
        )
    return fields


async def read_fields(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a form without a check of its token, so a page of another site may have made it.

    Raises:
        UnsupportedMediaType: the body is not a form.
        InvalidRequest: the body cannot be read.
        RequestEntityTooLarge: the body is too large.
        ClientLeft: the connection ended before the whole body was received.
    """
    body = await read_body(request.scope, request.receive, _LARGEST_FORM)
    if request.content_type[0] != _FORM:
        raise UnsupportedMediaType(say("send the form with the header Content-Type: {form}", form=_FORM))
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        detail = say(
            "the form is not encoded as {form} in UTF-8, or has more than {most_fields} fields",
            form=_FORM,
            most_fields=_MOST_FIELDS,
        )
        raise InvalidRequest([{"pointer": "#", "detail": detail}]) from None
    return dict(pairs)
