"""Tell a browser, in which a person reads, from a program."""

from litestar.datastructures.headers import Accept
from litestar.types import HTTPScope


def wants_page(scope: HTTPScope) -> bool:
    """Return whether a request is from a browser that wants HTML rather than JSON.

    Libraries of programs, such as Java's HttpURLConnection, may name text/html first too. Only browsers name XHTML.
    """
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    # Litestar's own choice takes a while, so most requests of programs do not get to it.
    is_browser = "text/html" in accept and "application/xhtml+xml" in accept
    return is_browser and Accept(accept).best_match(["application/json", "text/html"]) == "text/html"
