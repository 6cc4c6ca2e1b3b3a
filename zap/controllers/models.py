"""/models: the model versions, which one serves, and the way back."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, RawBody
from sqlalchemy.exc import SQLAlchemyError

from zap.controllers.parameters import Before, Limit, check_json_or_nothing, check_number
from zap.controllers.problems import problem_specs
from zap.controllers.schemas import Changed, ModelDetail, Models, ModelSummary, PromotionRecord, Promotions
from zap.db.model_registry import list_versions, read_version
from zap.db.promotions import Change, list_promotions, promote_version, roll_back
from zap.ml.promotion_reason import parse_reason


class ModelController(Controller):
    path = "/models"
    tags = ("models",)

    @get("/", operation_id="listModels", summary="The newest model versions", responses=problem_specs(400, 503))
    async def list(self, state: State, limit: Limit = 20, before: Before = None) -> Models:
        rows = await asyncio.to_thread(list_versions, state.engine, limit, before)
        return Models([ModelSummary(**row) for row in rows])

    @get(
        "/history",
        operation_id="listPromotions",
        summary="Which version served when, changed by whom and why",
        responses=problem_specs(400, 503),
    )
    async def history(self, state: State, limit: Limit = 20, before: Before = None) -> Promotions:
        rows = await asyncio.to_thread(list_promotions, state.engine, limit, before)
        return Promotions([PromotionRecord(**row) for row in rows])

    @get(
        "/{model_version:int}",
        operation_id="getModel",
        summary="All that is known of a model version",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> ModelDetail:
        check_number(request, model_version, "model version")
        known = await asyncio.to_thread(read_version, state.engine, model_version)
        # Golden rows are sessions of drivers, and reading needs no key.
        return ModelDetail(golden_rows=len(known.pop("golden") or ()), **known)

    @post(
        "/{model_version:int}/promote",
        status_code=200,
        operation_id="promoteModel",
        summary="Put a version into production",
        request_max_body_size=65536,
        responses=problem_specs(400, 401, 404, 409, 413, 415, 422, 503),
    )
    async def promote(
        self, request: Request[Any, Any, State], model_version: FromPath[int], body: RawBody, state: State
    ) -> Changed:
        """Needs no body. All workers and machines serve it within two seconds; this one does when it answers.

        A version that this code cannot serve is refused, and what serves still does.
        """
        check_number(request, model_version, "model version", ending="/promote")
        check_json_or_nothing(request, body)
        return await _changed(state, promote_version, state.engine, model_version, parse_reason(body))

    @post(
        "/rollback",
        status_code=200,
        operation_id="rollBack",
        summary="Put the version back that served before",
        request_max_body_size=65536,
        responses=problem_specs(400, 401, 409, 413, 415, 422, 503),
    )
    async def roll_back(self, request: Request[Any, Any, State], body: RawBody, state: State) -> Changed:
        """Needs no body. A second rollback goes back one further."""
        check_json_or_nothing(request, body)
        return await _changed(state, roll_back, state.engine, parse_reason(body))


async def _changed(state: State, change: Callable[..., Change], *arguments: Any) -> Changed:
    done = await asyncio.to_thread(change, *arguments)
    # It is done; where this fails the watch looks again in a moment.
    with contextlib.suppress(SQLAlchemyError):
        await asyncio.to_thread(state.production.refresh)
    return Changed("success", *done)
