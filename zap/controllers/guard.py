"""The check before every route: the request's host name, the web page that sent it, and its API key or its login.

A route declares in its `opt` that it is public, or the scope that a key needs for it. A route that declares nothing
needs a key with all scopes. The one key of ZAP_API_KEY has all scopes; without it, all routes are open. The login of a
browser stands for the key on pages, whose forms have a token, and wherever a request changes nothing.
"""

import secrets
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException
from litestar.handlers import BaseRouteHandler

from zap.controllers.host_names import LONGEST_HOST, host_check, is_same
from zap.errors import CrossSiteRequest, NotFound, Unauthorized, UnknownHost, UnsupportedEncoding
from zap.sentences import say
from zap.server.logins import COOKIE, ENDED, Logins
from zap.settings import Settings

# Methods that change nothing. A page of another site may send them, because browsers do not let it read the reply.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# The values of Sec-Fetch-Site for zap's own pages, and for an address that a person typed.
_OWN_PAGES = frozenset({b"same-origin", b"none"})
_LONGEST_SHOWN = 100
# If one of these headers appeared twice, zap and a proxy in front of it could read different values.
_ONCE = (b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"content-encoding", b"transfer-encoding")


def needed_scope(handler: BaseRouteHandler) -> str | None:
    """Return the scope that a key needs for a route; None if the route is public.

    A route that declares nothing needs the scope "", which only a key with all scopes has. A route with a scope is not
    public, even if its router says that its routes are.
    """
    scope = str(handler.opt.get("scope") or "")
    return None if handler.opt.get("public") and not scope else scope


class Guard:
    """Check the requests of one application before their routes see them.

    Args:
        settings: the API key, the host names of the server, and the origins whose pages may send requests.
        logins: the logins of browsers.
    """

    def __init__(self, settings: Settings, logins: Logins) -> None:
        self._logins = logins
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        self._origins = frozenset(one.encode() for one in settings.allowed_origins)
        self._is_known = host_check(settings.host_names)

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Let a request go on to its route, or refuse it before its body is read.

        Raises:
            ClientException: a header that decides who may ask appears more than once.
            UnknownHost: the Host header has an unknown name: a page of that host may have made a browser send this.
            CrossSiteRequest: a page of another site sent a request that changes something.
            UnsupportedEncoding: the body is compressed.
            Unauthorized: the route needs the key, and the request does not carry it.
            NotFound: the path holds a NUL byte.
        """
        scope = connection.scope
        sent: list[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment] # as every server makes it
        headers = dict(sent)
        if len(headers) != len(sent):
            _check_repeated([name for name, _ in sent])
        host = headers.get(b"host")
        if host is not None and (len(host) > LONGEST_HOST or not self._is_known(host)):
            shown = _shown(host)
            raise UnknownHost(
                say("zap does not know the host name {shown}; if it is right, add it to ZAP_ALLOWED_HOSTS", shown=shown)
            )
        method = scope.get("method")
        if method not in _SAFE:
            self._check_page(headers, host)
        if b"content-encoding" in headers:
            _check_encoding(headers[b"content-encoding"])
        if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            raise UnsupportedEncoding(say("Transfer-Encoding may only be chunked; send the body uncompressed"))
        if "\0" in scope["path"]:
            raise NotFound(say("the path holds a NUL byte, and no path of zap does; remove it"))
        is_public, is_page = needed_scope(handler) is None, "page" in handler.opt
        if self._key is None or method == "OPTIONS" or (is_public and not is_page):
            return
        if not is_public and secrets.compare_digest(headers.get(b"x-api-key", b""), self._key):
            return
        # No other route accepts a login for a change: only the forms of pages have a token.
        has_login = (method in _SAFE or is_page) and await self._has_login(connection)
        if not (is_public or has_login):
            raise Unauthorized(say("send the key in the header X-API-Key"))

    async def _has_login(self, connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
        """Return whether a browser has a login that was not ended. If it was ended, the request carries this."""
        cookie = connection.cookies.get(COOKIE)
        if cookie is None or not self._logins.is_valid(cookie):
            return False
        state = connection.app.state
        ended: bool = await state.page_threads.run(self._logins.has_ended, state.engine, cookie)
        connection.scope.setdefault("state", {})[ENDED] = ended
        return not ended

    def _check_page(self, headers: dict[bytes, bytes], host: bytes | None) -> None:
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            # A page of another site can make only a browser send a request, and a browser sends one of these headers.
            return
        if origin is not None and origin.lower() in self._origins:
            return
        # Browsers send Sec-Fetch-Site to localhost and over https. Over plain http they send only Origin.
        own = site in _OWN_PAGES if site is not None else origin is not None and is_same(origin, host)
        if not own:
            page = say("another site") if origin is None else _shown(origin)
            raise CrossSiteRequest(
                say("a page of {page} sent this; to allow its origin, add it to ZAP_CORS_ORIGINS", page=page)
            )


def _check_repeated(names: list[bytes]) -> None:
    for name in _ONCE:
        if names.count(name) > 1:
            raise ClientException(say("the header {name} appears more than once; send it once", name=name.decode()))


def _check_encoding(encoding: bytes) -> None:
    if encoding.strip().lower() not in {b"", b"identity"}:
        raise UnsupportedEncoding(
            say("the body is in {encoding}; send it uncompressed, without Content-Encoding", encoding=_shown(encoding))
        )


def _shown(value: bytes) -> str:
    return value[:_LONGEST_SHOWN].decode("ascii", errors="backslashreplace")
