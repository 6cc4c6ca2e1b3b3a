"""/models: the model versions, the version in production, promotions and rollbacks."""

from collections.abc import Callable
from typing import Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from zap.controllers.model_replies import ModelDetail, Models, ModelSummary
from zap.controllers.parameters import Before, Limit, check_json_or_nothing, check_number
from zap.controllers.problems import problem_specs
from zap.controllers.promotion_replies import Changed, PromotionRecord, Promotions
from zap.db.versions.model_registry import list_versions, read_version
from zap.db.versions.promotions import Change, list_promotions, promote_version, roll_back
from zap.formats.promotion_reason import Reason
from zap.formats.values import LARGEST_ID
from zap.scopes import PROMOTE, READ, needs
from zap.server.access import name_of
from zap.server.bodies import read_body

_LARGEST_BODY = 65536


class ModelController(Controller):
    path = "/models"
    tags = ("models",)

    @get(
        "/",
        operation_id="listModels",
        opt=needs(READ),
        summary="The newest model versions",
        responses=problem_specs(400, 503),
    )
    async def list(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> Models:
        rows = await state.threads.run(state.reads.read, list_versions, limit, before)
        return Models([ModelSummary(**row) for row in rows])

    @get(
        "/history",
        operation_id="listPromotions",
        opt=needs(READ),
        summary="Which version served when, who changed it and why",
        responses=problem_specs(400, 503),
    )
    async def history(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> Promotions:
        rows = await state.threads.run(state.reads.read, list_promotions, limit, before)
        return Promotions([PromotionRecord(**row) for row in rows])

    @get(
        "/{model_version:int}",
        operation_id="getModel",
        opt=needs(READ),
        summary="Everything that is stored about a model version",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> ModelDetail:
        check_number(request, model_version, "model version")
        known = await state.threads.run(state.reads.read, read_version, model_version)
        for name in ("trained_from", "trained_until", "tuned_until"):
            known[name] = known[name] and known[name].isoformat()
        # The golden rows themselves are sessions of drivers, so only their number is sent.
        return ModelDetail(golden_rows=len(known.pop("golden") or ()), **known)

    @post(
        "/{model_version:int}/promote",
        status_code=200,
        operation_id="promoteModel",
        opt=needs(PROMOTE),
        summary="Put a version into production",
        responses=problem_specs(400, 404, 409, 413, 415, 422, 503),
    )
    async def promote(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> Changed:
        """Put a version into production. No body is needed.

        When the reply is sent, this server process serves the version. All other processes and machines serve it within
        two seconds. A version that this code cannot serve is refused, and the version in production is unchanged.
        """
        check_number(request, model_version, "model version", ending="/promote")
        reason = await _reason(request)
        return await _changed(state, promote_version, model_version, reason)

    @post(
        "/rollback",
        status_code=200,
        operation_id="rollBack",
        opt=needs(PROMOTE),
        summary="Put the previous version back into production",
        responses=problem_specs(400, 409, 413, 415, 422, 503),
    )
    async def roll_back(self, request: Request[Any, Any, State], state: State) -> Changed:
        """Put the previous version back into production. No body is needed.

        A second rollback goes back one version further.
        """
        reason = await _reason(request)
        return await _changed(state, roll_back, reason)


async def _reason(request: Request[Any, Any, State]) -> Reason:
    body = await read_body(request.scope, request.receive, _LARGEST_BODY)
    check_json_or_nothing(request, body)
    return Reason.parse(body).said_by(name_of(request.scope))


async def _changed(state: State, change: Callable[..., Change], *arguments: Any) -> Changed:
    return Changed("success", *await state.threads.to_its_end(state.production.changed, change, *arguments))
