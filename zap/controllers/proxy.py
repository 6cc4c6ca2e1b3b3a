"""zap behind a proxy: path prefixes, forwarded headers, and pages of other origins (CORS)."""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from zap.errors import InvalidSettings
from zap.public import PREFIX_KEY
from zap.settings import PREFIX, Settings

_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def behind_proxy(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return the app wrapped so that it sees paths without the prefix, whether or not the proxy removed it.

    The headers X-Forwarded-Proto, -Host, -Prefix and -For are used if the request comes from a trusted proxy.
    """
    if not settings.root_path and not settings.trusted_proxies:
        return app
    is_trusted = _trusted(settings)

    async def forwarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            said = _forwarded(scope) if is_trusted(scope["client"]) else {}
            prefix = said.get("prefix", settings.root_path)
            _remove(prefix, scope)
            scope.setdefault("state", {})[PREFIX_KEY] = prefix
            if said.get("proto") in {"http", "https"}:
                scope["scheme"] = said["proto"]
            if "for" in said:
                scope["client"] = _client(scope, is_trusted)
            if _HOST.fullmatch(said.get("host", "")):
                others = [pair for pair in scope["headers"] if pair[0] != b"host"]
                scope["headers"] = [(b"host", said["host"].encode()), *others]
        await app(scope, receive, send)

    return forwarded


def cors_config(settings: Settings) -> CORSConfig | None:
    """Return the CORS configuration; None if ZAP_CORS_ORIGINS is not set."""
    if not settings.allowed_origins:
        return None
    return CORSConfig(
        allow_origins=sorted(settings.allowed_origins),
        allow_methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        allow_headers=["Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "Prefer", "Last-Event-ID"],
        expose_headers=[
            "Location",
            "Preference-Applied",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "X-Request-ID",
        ],
    )


def _trusted(settings: Settings) -> Callable[[tuple[str, int] | None], bool]:
    networks = settings.trusted_networks

    @lru_cache(1024)
    def holds(host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in networks)

    return lambda client: client is not None and holds(client[0])


def _forwarded(scope: HTTPScope) -> dict[str, str]:
    """Return the X-Forwarded-* values of a request by name. The nearest proxy's value is the last of each list."""
    said = {}
    for name, value in scope["headers"]:
        if name.startswith(b"x-forwarded-"):
            said[name.removeprefix(b"x-forwarded-").decode("latin-1")] = value.decode("latin-1").split(",")[-1].strip()
    if "prefix" in said:
        prefix = said.pop("prefix").rstrip("/")
        if PREFIX.fullmatch(prefix):
            said["prefix"] = prefix
    return said


def _client(scope: HTTPScope, is_trusted: Callable[[tuple[str, int] | None], bool]) -> tuple[str, int] | None:
    """Return the client that the nearest proxies name: the last address of X-Forwarded-For that is no trusted proxy."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    client = scope["client"]
    for said in reversed(",".join(values).split(",")):
        try:
            client = _address(said.strip()), 0
        except ValueError:
            break
        if not is_trusted(client):
            break
    return client


def _address(said: str) -> str:
    """Return an address without its port, which some proxies add: `192.0.2.1:5000`, `[2001:db8::1]:5000`.

    Raises:
        ValueError: it is no address.
    """
    if said.startswith("["):
        said = said[1:].partition("]")[0]
    elif said.count(":") == 1:
        said = said.partition(":")[0]
    return str(ip_address(said))


def _remove(prefix: str, scope: HTTPScope) -> None:
    path, raw_path = scope["path"], scope.get("raw_path") or b""
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        scope["path"] = path[len(prefix) :] or "/"
    own = prefix.encode()
    if own and (raw_path == own or raw_path.startswith((own + b"/", own + b"?"))):
        scope["raw_path"] = raw_path[len(own) :] or b"/"


def check_prefix(prefix: str, paths: Iterable[str]) -> None:
    """Refuse a prefix that is also a path of zap: it would be unclear whether a proxy has removed the prefix.

    Raises:
        InvalidSettings: the prefix is a path of zap.
    """
    if prefix and any(path == prefix or path.startswith(f"{prefix}/") for path in paths):
        raise InvalidSettings(f"ZAP_ROOT_PATH {prefix} is a path of zap itself; choose another path, such as /zap")
