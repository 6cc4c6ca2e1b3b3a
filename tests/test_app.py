"""The application as a whole: what it asks of its process while it serves."""

import gc
import sys

from conftest import client_of
from routes import read_anew, read_once

from zap.app import create_app


def test_it_sets_the_interpreter_for_serving_and_leaves_it_as_it_was(trained_sqlite):
    before = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()
    with client_of(trained_sqlite) as client:
        assert client.get("/health/live").status_code == 200
        assert sys.getswitchinterval() < before[0]
        assert gc.get_threshold()[0] > before[1][0]
        assert gc.get_freeze_count() > before[2]
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before


def test_making_it_opens_and_changes_nothing(trained_sqlite, tmp_path):
    before = sorted(tmp_path.rglob("*")), sys.getswitchinterval(), gc.get_threshold()
    create_app(trained_sqlite)
    assert (sorted(tmp_path.rglob("*")), sys.getswitchinterval(), gc.get_threshold()) == before


def test_the_routes_of_an_app_of_the_tests_are_those_of_any_other(trained_sqlite):
    """The apps of the tests share what Litestar reads of their handlers (see `routes.py`)."""
    shared = create_app(trained_sqlite)
    read_anew()
    try:
        anew = create_app(trained_sqlite)
    finally:
        read_once()

    assert (routes := _routes_of(anew)) == _routes_of(shared)
    assert len(routes) > 100
    assert _document(shared) == _document(anew)


def _routes_of(app):
    """Return what the handler of each route and method takes, and its options."""
    return {
        (route.path, method): (
            *(str(handler), sorted(handler.signature_model._fields.items()), handler.opt, handler.media_type),
            *(sorted(known.expected_reserved_kwargs), sorted(one.field_alias for one in known.expected_query_params)),
            *(sorted(one.field_alias for one in known.expected_path_params), len(handler.resolve_guards())),
        )
        for route in app.routes
        for method, (handler, known) in getattr(route, "route_handler_map", {}).items()
    }


def _document(app):
    """Return what the document says of each operation, without the examples that Litestar makes up for replies."""
    return {
        (path, method): (*(operation.get(part) for part in ("parameters", "requestBody")), [*operation["responses"]])
        for path, item in app.openapi_schema.to_schema()["paths"].items()
        for method, operation in item.items()
    }
