"""The headers that every reply has, and the Allow header of replies about methods."""

from typing import Any

from litestar.types import HTTPScope

_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_METHOD_NOT_ALLOWED = 405


def complete_headers(start: Any, request_id: str, method: str, scope: HTTPScope) -> None:
    """Add the headers that every reply has; a reply with its own Cache-Control keeps that."""
    others = start["headers"]
    start["headers"] = headers = [*others, (b"x-request-id", request_id.encode()), _NO_SNIFF, _NO_STORE]
    for name, _ in others:
        if name == b"cache-control":
            headers.pop()
            break
    if method == "OPTIONS" or start["status"] == _METHOD_NOT_ALLOWED:
        _allow(start, scope)


def _allow(start: Any, scope: HTTPScope) -> None:
    """Complete the Allow header with the methods of all handlers of a path: Litestar lists those of one handler."""
    allowed = {name.lower(): value.decode() for name, value in start["headers"]}.get(b"allow")
    if allowed is None:
        return
    methods = set(allowed.split(", ")) | {"OPTIONS"}
    template: Any = scope.get("path_template")
    methods.update(*(route.methods for route in scope["litestar_app"].routes if route.path_format == template))
    if "GET" in methods:
        methods.add("HEAD")
    others = [pair for pair in start["headers"] if pair[0].lower() != b"allow"]
    start["headers"] = [*others, (b"allow", ", ".join(sorted(methods)).encode())]
