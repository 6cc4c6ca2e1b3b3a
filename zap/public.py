"""What routes without a key have in common: their mark, their address for a client, the policy of their pages."""

from litestar.types import Scope

# What a route says in its `opt` that needs no key.
PUBLIC = {"public": True}
# Where a request carries the path prefix of its proxy, among what Litestar keeps of a request.
PREFIX_KEY = "prefix"
# Allows no inline script and nothing of other hosts. Swagger UI sets styles inline and draws icons from data: URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# What a route says in its `opt` that answers people in a browser: it needs a key or a login, and shows errors as pages.
PAGE = {"page": True}
# What a route says in its `opt` that has its own deadlines, or none.
TAKES_ITS_TIME = {"takes_its_time": True}
# In the address of a JSON route, with which a browser gets JSON and not the page of the route.
AS_JSON = {"as": "json"}
# The policy of zap's own pages, which have no inline script and no inline style.
PAGE_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def public_path(scope: Scope, path: str) -> str:
    """Return a path of zap as the client of this request has to write it."""
    prefix: str = scope.get("state", {}).get(PREFIX_KEY, "")
    return prefix + path
