"""What paths, queries and bodies of several routes have in common."""

from typing import Annotated, Any

from litestar import Request
from litestar.params import QueryParameter

from zap.errors import NotFound, UnsupportedMediaType
from zap.ml.json_body import LARGEST_ID

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=1000, description="how many")]
Before = Annotated[int | None, QueryParameter(name="before", ge=0, le=LARGEST_ID, description="older than this number")]

# ASCII is a part of it.
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


def check_json_or_nothing(request: Request[Any, Any, Any], body: bytes) -> None:
    """Refuse a body that does not say that it is JSON.

    Raises:
        UnsupportedMediaType: it does not.
    """
    if body.strip() and request.content_type[0] != "application/json":
        raise UnsupportedMediaType("send no body, or an object with the header Content-Type: application/json")


def media_type(request: Request[Any, Any, Any], *kinds: str) -> str:
    """Which of these the body is in.

    Raises:
        UnsupportedMediaType: it is in none of them, or in another encoding than UTF-8.
    """
    kind, options = request.content_type
    if kind not in kinds:
        *others, last = kinds
        raise UnsupportedMediaType(f"send the header Content-Type: {', '.join(others)}{' or ' * bool(others)}{last}")
    if (charset := options.get("charset", "utf-8")).lower() not in _UTF_8:
        raise UnsupportedMediaType(f"the body is in {charset[:40]}; send it in UTF-8")
    return kind


def check_number(request: Request[Any, Any, Any], number: int, what: str, ending: str = "") -> None:
    """Refuse a number in the path that is written otherwise than numbers are, or that no row can have.

    Args:
        request: what was sent.
        number: as it was read from the path.
        what: what it is the number of.
        ending: what comes behind it in the path.

    Raises:
        NotFound: there is nothing there.
    """
    # Python's int, by which the path is read, takes 1_0, +10 and the digits of other scripts for 10 too.
    sent = request.scope["path"].rstrip("/").removesuffix(ending).rpartition("/")[2]
    if sent != str(number) or not 0 <= number <= LARGEST_ID:
        raise NotFound(f"there is no {what} {sent[:50]}")
