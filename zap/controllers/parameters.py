"""The parameters and bodies that several routes read."""

from typing import Annotated, Any

from litestar import Request
from litestar.params import QueryParameter

from zap.errors import NotFound, UnsupportedMediaType
from zap.formats.values import LARGEST_ID

MOST_ENTRIES = 1000
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MOST_ENTRIES, description="the most entries to return")]
# A parameter that may be null would also accept the text "null". LARGEST_ID, the default, leaves no entry out.
Before = Annotated[
    int, QueryParameter(name="before", ge=1, le=LARGEST_ID, description="return entries with smaller numbers")
]

# ASCII text is also UTF-8 text.
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


def check_json_or_nothing(request: Request[Any, Any, Any], body: bytes) -> None:
    """Refuse a body that is not declared as JSON; an empty body is accepted.

    Raises:
        UnsupportedMediaType: the Content-Type is not application/json.
    """
    if body.strip() and request.content_type[0] != "application/json":
        raise UnsupportedMediaType("send no body, or a JSON object with the header Content-Type: application/json")


def media_type(request: Request[Any, Any, Any], *kinds: str) -> str:
    """Return the media type of the body, which is one of `kinds`.

    Raises:
        UnsupportedMediaType: the body has another media type, or an encoding other than UTF-8.
    """
    kind, options = request.content_type
    if kind not in kinds:
        *others, last = kinds
        raise UnsupportedMediaType(f"send the header Content-Type: {', '.join(others)}{' or ' * bool(others)}{last}")
    if (charset := options.get("charset", "utf-8")).lower() not in _UTF_8:
        raise UnsupportedMediaType(f"the body is encoded in {charset[:40]}; send it in UTF-8")
    return kind


def check_number(request: Request[Any, Any, Any], number: int, what: str, ending: str = "") -> None:
    """Refuse a number in the path that is not written in plain digits, or that no row can have.

    Args:
        request: the request.
        number: the number as Litestar read it from the path.
        what: the kind of resource, for the message.
        ending: the part of the path after the number.

    Raises:
        NotFound: no resource can have this number.
    """
    # Litestar reads the path with Python's int, which also reads 1_0, +10 and digits of other scripts as 10.
    sent = request.scope["path"].rstrip("/").removesuffix(ending).rpartition("/")[2]
    if sent != str(number) or not 0 <= number <= LARGEST_ID:
        raise NotFound(f"there is no {what} {sent[:50]}")
