"""Keys for tests, and every route of an app with a request that changes nothing."""

import re

from litestar.routes import ASGIRoute, HTTPRoute

from zap.db.api_keys import create_key
from zap.formats.key_options import KeyOptions

# No row has this number, so a request with it finds nothing to change.
NOBODY = "999999999"


def make_key(engine, *scopes, name=None, **options):
    """Make a key with scopes, and return it whole."""
    named = name or " and ".join(scopes)
    return create_key(engine, KeyOptions.read({"name": named, "scopes": list(scopes), **options})).key


def routes_of(app):
    """Yield each method, path and handler of an app, with a number in the place of parameters."""
    for route in app.routes:
        path = re.sub(r"{[^}]*}", NOBODY, route.path)
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted({*handler.http_methods} - {"OPTIONS", "HEAD"}):
                    yield method, path, handler
        elif isinstance(route, ASGIRoute):
            yield "POST", path, route.route_handler


def ask(client, method, path, **headers):
    """Send a request whose body no route takes, and return the reply."""
    content = None if method == "GET" else b"nonsense"
    sent = {"Content-Type": "text/plain", **headers}
    return client.request(method, path, content=content, headers=sent, follow_redirects=False)
