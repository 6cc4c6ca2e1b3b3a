"""The styles and scripts of the pages, at addresses that change with their content."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from litestar import Response, get
from litestar.params import FromPath

from zap.errors import NotFound
from zap.public import PUBLIC
from zap.sentences import say

_STATIC = Path(__file__).resolve().parent.parent / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def asset_files() -> Mapping[str, bytes]:
    """Return the files by name: the pages' own files, and the vendored ones."""
    return {
        path.name: path.read_bytes()
        for folder in ("pages", "vendor")
        for path in sorted((_STATIC / folder).iterdir())
        if path.suffix in _KINDS
    }


@cache
def assets_digest() -> str:
    """Return the part of the addresses that changes with the content of any file: modules import each other."""
    digest = hashlib.sha256()
    for name, body in asset_files().items():
        digest.update(f"{name}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()[:16]


@get("/pages/assets/{digest:str}/{name:str}", include_in_schema=False, opt=PUBLIC)
async def asset(digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Send a file. A server process of another zap may have made the page: then the file must not be kept.

    Raises:
        NotFound: there is no such file.
    """
    files = asset_files()
    if name not in files:
        raise NotFound(say("the pages have no file {name!r}", name=name[:100]))
    kept = "public, max-age=31536000, immutable" if digest == assets_digest() else "no-store"
    return Response(files[name], media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": kept})
