"""The check before every route: the request's host name, the web page that sent it, and its key or its login.

A route declares in its `opt` that it is public, or the scopes that a key needs for it. A route that declares nothing
needs a key with the scope admin. As long as there is no key, all routes are open. The login of a browser stands for its
key on pages, whose forms have a token, and wherever a request changes nothing.
"""

from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException
from litestar.handlers import ASGIRouteHandler, BaseRouteHandler

from zap.actor import ACTOR, Actor
from zap.controllers.host_names import LONGEST_HOST, host_check, is_same
from zap.errors import (
    CrossSiteRequest,
    DatabaseUnavailable,
    LimitReached,
    NotFound,
    Unauthorized,
    UnknownHost,
    UnsupportedEncoding,
)
from zap.formats.api_key import PREFIX, is_whole
from zap.scopes import ADMIN, SCOPES_OPT
from zap.sentences import say
from zap.server.access import carry, scope_missing
from zap.server.keys import Key, Keys
from zap.server.logins import COOKIE, Logins, client_network
from zap.server.wrong_headers import WrongHeaders
from zap.settings import Settings

# Methods that change nothing. A page of another site may send them, because browsers do not let it read the reply.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# The values of Sec-Fetch-Site for zap's own pages, and for an address that a person typed.
_OWN_PAGES = frozenset({b"same-origin", b"none"})
_LONGEST_SHOWN = 100
# If one of these headers appeared twice, zap and a proxy in front of it could read different values.
_ONCE = (
    *(b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization"),
    *(b"content-encoding", b"transfer-encoding"),
)
# The scopes that a route needs which declares nothing.
_UNDECLARED = frozenset({ADMIN})
# Who makes a change where no key is needed.
ANYBODY = "anybody"


def needed_scopes(handler: BaseRouteHandler) -> frozenset[str] | None:
    """Return the scopes that a key needs for a route; None if the route is public.

    A route with scopes is not public, even if its router says that its routes are.
    """
    opt = handler.opt
    scopes: frozenset[str] | None = opt.get(SCOPES_OPT)
    if scopes is not None:
        return scopes
    return None if "public" in opt else _UNDECLARED


class Guard:
    """Check the requests of one application before their routes see them.

    Args:
        settings: the host names of the server, and the origins whose pages may send requests.
        keys: the keys.
        logins: the logins of browsers.
    """

    def __init__(self, settings: Settings, keys: Keys, logins: Logins) -> None:
        self._keys = keys
        self._logins = logins
        self._wrong = WrongHeaders()
        self._origins = frozenset(one.encode() for one in settings.allowed_origins)
        self._is_known = host_check(settings.host_names)

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Let a request go on to its route, or refuse it before its body is read.

        Raises:
            ClientException: a header that decides who may ask appears more than once.
            UnknownHost: the Host header has an unknown name: a page of that host may have made a browser send this.
            CrossSiteRequest: a page of another site sent a request that changes something.
            UnsupportedEncoding: the body is compressed.
            Unauthorized: the route needs a key, and the request carries none, or a wrong one.
            ScopeMissing: the key may not do this.
            LimitReached: the key has reached its limit, or too many wrong ones came.
            DatabaseUnavailable: the database does not say whether the key is still right.
            NotFound: the path holds a NUL byte, or is not UTF-8.
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
        _check_body(headers)
        if "\0" in scope["path"]:
            raise NotFound(say("the path holds a NUL byte, and no path of zap does; remove it"))
        if "\ufffd" in scope["path"] and not _is_utf8(scope.get("raw_path", b"")):
            # The server has put this character in the place of each wrong byte, and it could be in the id of a driver.
            raise NotFound(say("the path is not UTF-8; write é as %C3%A9, for example"))
        needed = needed_scopes(handler)
        if needed is None and "page" not in handler.opt:
            return
        if self._keys.is_closed and method != "OPTIONS":
            await self._check_key(connection, handler, headers, needed)
        elif not isinstance(handler, ASGIRouteHandler):
            ACTOR.set(Actor(ANYBODY, _address(scope)))

    async def _check_key(
        self,
        connection: ASGIConnection[Any, Any, Any, Any],
        handler: BaseRouteHandler,
        headers: dict[bytes, bytes],
        needed: frozenset[str] | None,
    ) -> None:
        """Check the key or the login of a request. A public page needs none, and shows its login."""
        scope, is_change = connection.scope, connection.scope.get("method") not in _SAFE
        key: Key | None = None
        sent = None if needed is None else sent_key(headers)
        if sent is not None:
            try:
                key = self._keys.find(sent)
            except DatabaseUnavailable:
                key = await connection.app.state.key_looks.found(partial(self._keys.find, sent))
            if key is None:
                raise self._wrong_key(sent, scope)
        elif not is_change or "page" in handler.opt:
            # No other route accepts a login for a change: only the forms of pages have a token.
            key = await self._login(connection)
        if needed is None:
            return
        if key is None:
            raise Unauthorized(say("send a key in the header X-API-Key, or as Authorization: Bearer"))
        if key.rate is not None and not key.rate.take():
            raise LimitReached(
                say("the key may send {limit:,} requests a second to a server process", limit=key.rate.limit),
                key.rate.headers(),
            )
        if not needed <= key.scopes:
            raise scope_missing(key, needed)
        # The route of one prediction has no use for what the others are told.
        if not isinstance(handler, ASGIRouteHandler):
            carry(scope, key, by_login=sent is None)
            # Also if nothing is changed: an export of a driver is written down.
            ACTOR.set(Actor(key.name, _address(scope)))

    async def _login(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Key | None:
        """Return the key of the login of a browser; None if it has none. The request carries the key."""
        cookie = connection.cookies.get(COOKIE)
        state = connection.app.state
        key: Key | None = await state.key_looks.found(partial(self._logins.key_of, cookie))
        if key is None or cookie is None:
            return None
        if not await state.page_threads.run(self._logins.is_valid, state.engine, cookie, key):
            return None
        carry(connection.scope, key, by_login=True)
        return key

    def _wrong_key(self, sent: bytes, scope: Any) -> Unauthorized | LimitReached:
        """Return the error of a wrong key. A right key is never refused because of wrong ones from its network."""
        if wait := self._wrong.note(client_network(scope.get("client"))):
            return LimitReached(
                say("very many wrong keys came from your network; stop sending them"), {"Retry-After": str(wait)}
            )
        text = sent.decode("latin-1")
        if text.startswith(PREFIX) and not is_whole(text):
            return Unauthorized(say("the key was changed on its way: its checksum is wrong; copy the whole key"))
        return Unauthorized(say("this key is wrong, or has ended"))

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


def _is_utf8(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_body(headers: dict[bytes, bytes]) -> None:
    if b"content-encoding" in headers:
        _check_encoding(headers[b"content-encoding"])
    if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        raise UnsupportedEncoding(say("Transfer-Encoding may only be chunked; send the body uncompressed"))


def _check_encoding(encoding: bytes) -> None:
    if encoding.strip().lower() not in {b"", b"identity"}:
        raise UnsupportedEncoding(
            say("the body is in {encoding}; send it uncompressed, without Content-Encoding", encoding=_shown(encoding))
        )


def _shown(value: bytes) -> str:
    return value[:_LONGEST_SHOWN].decode("ascii", errors="backslashreplace")


def sent_key(headers: dict[bytes, bytes]) -> bytes | None:
    """Return the key in the headers of a request; None if there is none. X-API-Key comes before Authorization."""
    key = headers.get(b"x-api-key")
    if key is not None or b"authorization" not in headers:
        return key
    kind, _, value = headers[b"authorization"].partition(b" ")
    return value.strip() if kind.lower() == b"bearer" else None


def _address(scope: Any) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
