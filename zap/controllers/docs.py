"""GET /docs, its assets, and the OpenAPI document as the version in production makes it."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.status_codes import HTTP_404_NOT_FOUND
from swagger_ui_bundle import swagger_ui_path

from zap import __version__
from zap.controllers.batches import CSV, JSON
from zap.controllers.line_stream import NDJSON
from zap.controllers.problems import MEDIA_TYPE
from zap.controllers.schemas import RefusedRow
from zap.errors import NoModel
from zap.ml.batch import INPUTS
from zap.ml.promotion_reason import reason_schema
from zap.ml.request import example_request, request_schema
from zap.ml.session_report import example_reports, session_schema
from zap.ml.training_options import options_schema

_PACKAGE = Path(__file__).resolve().parent.parent
# No inline script and nothing from elsewhere; Swagger UI sets styles inline and draws its icons from data: URLs.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_TRAININGS = {
    "as it is": {},
    "with rolling windows": {"windows": True},
    "serve it only if it is better": {"promote": "if_better", "note": "weekly training"},
}
# Headers that handlers read themselves. Without examples: the page would send them unasked.
_HEADERS = {
    ("post", "/train-model"): ("Prefer", "respond-async: answer at once, with the place of the training"),
    ("get", "/training-runs/{run_id}/events"): ("Last-Event-ID", "go on after this event"),
}
_REASONS = {"without words": {}, "with words": {"who": "ann", "why": "the new one asks for too much"}}


class _Page(OpenAPIRenderPlugin):
    """Swagger UI from local files."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._html = (_PACKAGE / "templates" / "docs.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        del request, openapi_schema
        return self._html


class _Document(JsonRenderPlugin):
    """The OpenAPI document, completed by what the production version asks of a request."""

    def __init__(self) -> None:
        super().__init__(media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self.render_json(request, live_document(request, openapi_schema))


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="zap",
        version=__version__,
        description=(
            "Which charger type fits a driver's next session. A prediction is committed to the database before it is"
            " sent; a score is always shown beside what guessing scores. What is learned is the type that drivers used,"
            " not the one that would have been best."
        ),
        path="/docs",
        use_handler_docstrings=True,
        openapi_router=Router("/docs", route_handlers=[], include_in_schema=False, after_request=_protect),
        render_plugins=[_Page(), _Document()],
    )


def docs_handlers() -> list[HTTPRouteHandler | Router]:
    """What the documentation needs beside the routes that `openapi_config` makes."""
    assets = create_static_files_router(
        "/docs/assets",
        [str(swagger_ui_path), _PACKAGE / "static"],
        name="docs-assets",
        include_in_schema=False,
        cache_control=CacheControlHeader(max_age=86400),
    )
    return [_root, _openapi, assets]


def live_document(request: Request[Any, Any, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the bodies that are read strictly (that of /predict as the production version takes it).

    Every error is shown as problem details.
    """
    state = request.app.state
    try:
        contract = state.production.predictor.contract
    except NoModel:
        contract = None
    document = copy.deepcopy(schema)
    _add_batch(document, contract)
    for path, required, body_schema, examples in (
        ("/predict", True, request_schema(contract), {"a session": example_request(contract)}),
        ("/charging-sessions", True, session_schema(), example_reports()),
        ("/train-model", False, options_schema(), _TRAININGS),
        ("/models/{model_version}/promote", False, reason_schema(), _REASONS),
        ("/models/rollback", False, reason_schema(), _REASONS),
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
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                # Litestar describes the errors that it adds itself in a form of its own.
                content = response.get("content", {})
                if int(status) >= 400 and "$ref" not in content.get("application/json", {}).get("schema", {"$ref": ""}):
                    response["content"] = _PROBLEM
            if method in {"post", "delete"} and state.api_key is not None:
                operation["security"] = [{"ApiKey": []}]
    if state.api_key is not None:
        key = {"type": "apiKey", "name": "X-API-Key", "in": "header"}
        document["components"]["securitySchemes"] = {"ApiKey": key}
    return document


def _add_batch(document: dict[str, Any], contract: Mapping[str, Any] | None) -> None:
    """The three bodies of a batch, with the production version's rows, and what stands in the replies."""
    operation, schemas = document["paths"]["/predict/batch"]["post"], document["components"]["schemas"]
    _, refused = msgspec.json.schema_components([RefusedRow], ref_template="#/components/schemas/{name}")
    for name, schema in refused.items():
        schemas.setdefault(name, schema)
    outcome = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("PredictReply", "RefusedRow")]}
    schemas["BatchReply"]["properties"]["predictions"]["items"] = outcome
    row, example = request_schema(contract), example_request(contract)
    lines = {"type": "string", "description": "a request of /predict on each line"}
    table = {
        "type": "string",
        "description": "a line of field names, then a line for each request. An empty cell is null, a column that is"
        " not there a field that is left out; comma, semicolon or tab separates",
    }
    inputs = {"type": "array", "items": row, "description": "in their order"}
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
        "schema": {"type": "string", "description": "what /predict answers, or what is wrong, on a line for each line"}
    }


def _protect(response: Response[Any]) -> Response[Any]:
    if response.status_code == HTTP_404_NOT_FOUND:
        # Litestar has a page of its own for what is not there below /docs.
        raise NotFoundException
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@get("/", include_in_schema=False)
async def _root() -> Redirect:
    return Redirect("/docs")


@get("/openapi.json", include_in_schema=False)
async def _openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return live_document(request, request.app.openapi_schema.to_schema())
