"""GET /docs with its assets, and the OpenAPI document with the request fields of the version in production."""

import copy
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader, State
from litestar.exceptions import InternalServerException, NotFoundException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.response import Redirect
from litestar.routes import ASGIRoute, HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.status_codes import HTTP_404_NOT_FOUND
from swagger_ui_bundle import swagger_ui_path

from zap import __version__
from zap.controllers.batches import CSV, JSON, RefusedRow
from zap.controllers.guard import needed_scope
from zap.controllers.line_stream import NDJSON
from zap.controllers.prediction import OPERATION, REFUSALS
from zap.controllers.prediction_reply import PredictReply
from zap.controllers.problems import MEDIA_TYPE, unreadable_file
from zap.errors import DamagedModel, NoModel
from zap.formats.body_model import BodyModel, body_schemas
from zap.formats.promotion_reason import Reason
from zap.formats.request import example_request, request_schema
from zap.formats.request_rows import INPUTS
from zap.formats.session_report import ChargingSession, example_reports, report_schema
from zap.formats.training_options import TrainingOptions
from zap.ml.inference import Predictor
from zap.public import CONTENT_SECURITY_POLICY, PUBLIC, public_path

_PACKAGE = Path(__file__).resolve().parent.parent
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
# Documents are kept for at most this many path prefixes. Trusted proxies name them, and usually there is one.
_MOST_PREFIXES = 16
_TRAININGS = {
    "as it is": {},
    "with rolling windows": {"windows": True},
    "serve it only if it is better": {"promote": "if_better", "note": "weekly training"},
}
# Headers that handlers read without Litestar. They have no examples, because Swagger UI sends examples by default.
_HEADERS = {
    ("post", "/train-model"): ("Prefer", "respond-async: answer at once, with the address of the training run"),
    ("get", "/training-runs/{run_id}/events"): ("Last-Event-ID", "send the events after this one"),
}
_REASONS = {"without words": {}, "with words": {"who": "ann", "why": "the new version requires too many fields"}}


class _Page(OpenAPIRenderPlugin):
    """Render Swagger UI from local files."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._html = (_PACKAGE / "templates" / "docs.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        del openapi_schema
        return self._html.replace(b'"/docs/', f'"{public_path(request.scope, "/docs/")}'.encode())


class Documents:
    """Hold the encoded OpenAPI document. It is made again only when the contract of production changes.

    Making the document blocks the event loop for tens of milliseconds, and anybody may request it.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._contract: Mapping[str, Any] | None = None
        # The encoded document for each path prefix.
        self._made: dict[str, bytes] = {}

    def document(self, request: Request[Any, Any, Any]) -> bytes:
        """Return the document for a client, with the path prefix that it sees."""
        contract = _contract(self._app.state)
        if contract is not self._contract or len(self._made) >= _MOST_PREFIXES:
            self._contract, self._made = contract, {}
        prefix = public_path(request.scope, "")
        if prefix not in self._made:
            document = live_document(self._app, contract, prefix)
            self._made[prefix] = msgspec.json.encode(document)
        return self._made[prefix]


class _Document(JsonRenderPlugin):
    """Render the OpenAPI document at /docs/openapi.json."""

    def __init__(self) -> None:
        super().__init__(media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        del openapi_schema
        documents: Documents = request.app.state.documents
        return documents.document(request)


def openapi_config() -> OpenAPIConfig:
    """Return the configuration of the document and of the page /docs."""
    return OpenAPIConfig(
        title="zap",
        version=__version__,
        description=(
            "Predict which charger type fits a driver's next session. A prediction is committed to the database before"
            " it is sent. Scores are always shown beside the scores of baselines. The model learns the type that"
            " drivers used, which is not always the type that would have been best."
        ),
        path="/docs",
        use_handler_docstrings=True,
        openapi_router=Router("/docs", route_handlers=[], include_in_schema=False, after_request=_protect, opt=PUBLIC),
        render_plugins=[_Page(), _Document()],
    )


def docs_handlers() -> list[HTTPRouteHandler | Router]:
    """Return the routes of the documentation that `openapi_config` does not make."""
    assets = create_static_files_router(
        "/docs/assets",
        [str(swagger_ui_path), _PACKAGE / "static"],
        name="docs-assets",
        include_in_schema=False,
        cache_control=CacheControlHeader(max_age=86400),
        opt=PUBLIC,
        exception_handlers={InternalServerException: unreadable_file},
    )
    return [_root, _openapi, assets]


def live_document(app: Litestar, contract: Mapping[str, Any] | None, prefix: str) -> dict[str, Any]:
    """Return the OpenAPI document, with the request bodies and with every error as problem details.

    Args:
        app: the application whose routes are described.
        contract: the request fields of the version in production; None before the first training.
        prefix: the path prefix under which clients reach zap.
    """
    document = copy.deepcopy(app.openapi_schema.to_schema())
    document["servers"] = [{"url": prefix or "/"}]
    document["externalDocs"] = {"url": f"{prefix}/manual", "description": "The manual"}
    _add_predict(document)
    _add_batch(document, contract)
    document["components"]["schemas"] |= body_schemas(ChargingSession, Reason, TrainingOptions)
    for path, required, body_schema, examples in (
        ("/predict", True, request_schema(contract), {"a session": example_request(contract)}),
        ("/charging-sessions", True, report_schema(_schema(ChargingSession)), example_reports()),
        ("/train-model", False, _schema(TrainingOptions), _TRAININGS),
        ("/models/{model_version}/promote", False, _schema(Reason), _REASONS),
        ("/models/rollback", False, _schema(Reason), _REASONS),
    ):
        content = {"schema": body_schema, "examples": {name: {"value": value} for name, value in examples.items()}}
        document["paths"][path]["post"]["requestBody"] = {
            "required": required,
            "content": {"application/json": content},
        }
    for (method, path), (name, description) in _HEADERS.items():
        header = {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
        document["paths"][path][method].setdefault("parameters", []).append(header)
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                # Litestar describes the errors that it adds by itself, but not as problem details.
                content = response.get("content", {})
                if int(status) >= 400 and "$ref" not in content.get("application/json", {}).get("schema", {"$ref": ""}):
                    response["content"] = _PROBLEM
    _add_access(document, app)
    return document


def _schema(body: type[BodyModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{body.__name__}"}


def _contract(state: State) -> Mapping[str, Any] | None:
    try:
        predictor: Predictor = state.production.predictor
    except (NoModel, DamagedModel):
        return None
    return predictor.contract


def _add_predict(document: dict[str, Any]) -> None:
    """Add /predict, which Litestar leaves out because the route is plain ASGI."""
    operation = copy.deepcopy(OPERATION)
    operation["responses"] |= _problems(*REFUSALS)
    document["paths"] = {"/predict": {"post": operation}, **document["paths"]}
    _, structs = msgspec.json.schema_components([PredictReply, RefusedRow], ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = structs | document["components"]["schemas"]


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in statuses}


def _add_access(document: dict[str, Any], app: Litestar) -> None:
    """Add to every route whether it needs the key, with which scope, and the errors of `Guard.check`."""
    needs_key = app.state.settings.api_key is not None
    scopes = {(path, method): needed_scope(handler) for path, method, handler in _operations(app)}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusals = {**_problems(421), **(_problems(403) if method != "get" else {})}
            scope = scopes[path, method]
            if needs_key and scope is not None:
                refusals |= _problems(401)
                operation["security"] = [{"ApiKey": [scope] if scope else []}]
            operation["responses"] = dict(sorted({**refusals, **operation["responses"]}.items()))
    if needs_key:
        key = {"type": "apiKey", "name": "X-API-Key", "in": "header"}
        document["components"]["securitySchemes"] = {"ApiKey": key}


def _operations(app: Litestar) -> Iterator[tuple[str, str, BaseRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield from ((route.path_format, method.lower(), handler) for method in handler.http_methods)
        elif isinstance(route, ASGIRoute):
            yield route.path_format, "post", route.route_handler


def _add_batch(document: dict[str, Any], contract: Mapping[str, Any] | None) -> None:
    """Add the three body formats of a batch, with the row's fields, and the elements of the replies."""
    operation, schemas = document["paths"]["/predict/batch"]["post"], document["components"]["schemas"]
    outcome = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("PredictReply", "RefusedRow")]}
    schemas["BatchReply"]["properties"]["predictions"]["items"] = outcome
    row, example = request_schema(contract), example_request(contract)
    lines = {"type": "string", "description": "a request of /predict on each line"}
    table = {
        "type": "string",
        "description": "a line of field names, then a line for each request. An empty cell is null; a missing column is"
        " a field that is left out. The separator is a comma, a semicolon or a tab",
    }
    inputs = {"type": "array", "items": row, "description": "the requests; their predictions have the same order"}
    batch = {"type": "object", "properties": {INPUTS: inputs}, "required": [INPUTS], "additionalProperties": False}
    line, cells = json.dumps(example, ensure_ascii=False), ",".join(str(value) for value in example.values())
    operation["requestBody"] = {
        "required": True,
        "content": {
            kind: {"schema": schema, "examples": {"two sessions": {"value": value}}}
            for kind, schema, value in (
                (JSON, batch, {INPUTS: [example, example]}),
                (CSV, table, f"{','.join(example)}\n{cells}\n{cells}\n"),
                (NDJSON, lines, f"{line}\n{line}\n"),
            )
        },
    }
    operation["responses"]["200"]["content"][NDJSON] = {
        "schema": {"type": "string", "description": "for each line, a line with the reply of /predict or the errors"}
    }


def _protect(response: Response[Any]) -> Response[Any]:
    if response.status_code == HTTP_404_NOT_FOUND:
        # Litestar would answer an unknown path below /docs with its own page; this makes it a problem.
        raise NotFoundException
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@get("/", include_in_schema=False, opt=PUBLIC)
async def _root(request: Request[Any, Any, Any]) -> Redirect:
    return Redirect(public_path(request.scope, "/docs"))


@get("/openapi.json", include_in_schema=False, media_type=MediaType.JSON, opt=PUBLIC)
async def _openapi(request: Request[Any, Any, Any]) -> bytes:
    documents: Documents = request.app.state.documents
    return documents.document(request)
