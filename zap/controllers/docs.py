"""GET /docs with its assets, and the OpenAPI document with what this server knows now."""

import time
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import InternalServerException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.status_codes import HTTP_404_NOT_FOUND
from sqlalchemy.exc import SQLAlchemyError
from swagger_ui_bundle import swagger_ui_path

from zap import __version__
from zap.controllers.openapi import openapi_document
from zap.controllers.problems import unreadable_file
from zap.controllers.request_examples import Known
from zap.db.example_rows import ExampleRows, example_rows
from zap.errors import DamagedModel, NoModel, ZapError
from zap.ml.inference import Predictor
from zap.public import CONTENT_SECURITY_POLICY, public_path
from zap.scopes import needs

_PACKAGE = Path(__file__).resolve().parent.parent
# Documents are kept for at most this many path prefixes. Trusted proxies name them, and usually there is one.
_MOST_PREFIXES = 16
# How long (seconds) the rows of the examples are believed, and how long a request waits for them.
_FRESH_SECONDS = 10.0
_PATIENCE_SECONDS = 1.0


class _Page(OpenAPIRenderPlugin):
    """Render Swagger UI from local files."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._html = (_PACKAGE / "templates" / "docs.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        del openapi_schema
        return self._html.replace(b'"/docs/', f'"{public_path(request.scope, "/docs/")}'.encode())


class Documents:
    """Hold the encoded OpenAPI document. It is made again only when what it shows has changed.

    Making the document blocks the event loop for tens of milliseconds, and anybody may request it.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._known = Known()
        self._needs_key = True
        self._rows = ExampleRows()
        # The version for which the rows were last read, and until when they are believed.
        self._looked_for: Any = None
        self._look_again = float("-inf")
        # The encoded document for each path prefix.
        self._made: dict[str, bytes] = {}

    async def look(self) -> None:
        """Read the rows of the examples, unless this was done a moment ago. Without the database they stay as they are.

        A request never waits long: the document is also there when the database is not.
        """
        now, state, contract = time.monotonic(), self._app.state, self._now().contract
        if now < self._look_again and contract is self._looked_for:
            return
        self._look_again, self._looked_for = now + _FRESH_SECONDS, contract
        try:
            self._rows = await state.threads.run(example_rows, state.engine, until=now + _PATIENCE_SECONDS)
        except (SQLAlchemyError, ZapError):
            return

    def document(self, request: Request[Any, Any, Any]) -> bytes:
        """Return the document for a client, with the path prefix that it sees."""
        known, before = self._now(), self._known
        needs_key = self._app.state.api_keys.is_closed
        changed = needs_key != self._needs_key or known.contract is not before.contract or known[1:] != before[1:]
        if changed or len(self._made) >= _MOST_PREFIXES:
            self._known, self._needs_key, self._made = known, needs_key, {}
        prefix = public_path(request.scope, "")
        if prefix not in self._made:
            self._made[prefix] = msgspec.json.encode(openapi_document(self._app, known, prefix))
        return self._made[prefix]

    def _now(self) -> Known:
        try:
            predictor: Predictor = self._app.state.production.predictor
        except (NoModel, DamagedModel):
            return Known(rows=self._rows)
        return Known(predictor.contract, predictor.model_version, self._rows)


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
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            before_request=_look,
            after_request=_protect,
            opt=needs(),
        ),
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
        opt=needs(),
        exception_handlers={InternalServerException: unreadable_file},
    )
    return [_openapi, assets]


async def _look(request: Request[Any, Any, Any]) -> None:
    documents: Documents = request.app.state.documents
    await documents.look()


def _protect(response: Response[Any]) -> Response[Any]:
    if response.status_code == HTTP_404_NOT_FOUND:
        # Litestar would answer an unknown path below /docs with its own page; this makes it a problem.
        raise NotFoundException
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@get("/openapi.json", include_in_schema=False, media_type=MediaType.JSON, before_request=_look, opt=needs())
async def _openapi(request: Request[Any, Any, Any]) -> bytes:
    documents: Documents = request.app.state.documents
    return documents.document(request)
