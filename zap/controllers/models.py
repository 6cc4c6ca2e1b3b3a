"""/models: the model versions, the version in production, promotions and rollbacks."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from msgspec import Meta, Struct
from sqlalchemy.exc import SQLAlchemyError

from zap.controllers.parameters import Before, Limit, check_json_or_nothing, check_number, read_body
from zap.controllers.problems import problem_specs
from zap.db.versions.model_registry import list_versions, read_version
from zap.db.versions.promotions import Change, list_promotions, promote_version, roll_back
from zap.formats.json_body import LARGEST_ID
from zap.formats.promotion_reason import Reason

_LARGEST_BODY = 65536


class JudgedOn(Struct, rename={"from_": "from"}):
    """The sessions on which a verdict was decided."""

    sessions_of: str
    sessions: int
    from_: str | None
    until: str | None


class VersionScores(Struct):
    """The scores of a version in its training, each beside the score of the best baseline."""

    test_f1_score: float
    best_baseline_by_f1: str
    best_baseline_f1_score: float
    log_loss: float
    best_baseline: str
    best_baseline_log_loss: float
    verdict: Annotated[
        Literal["better", "not_shown", "worse"] | None, Meta(description="null for versions of an older zap")
    ]
    judged_on: Annotated[JudgedOn | None, Meta(description="the sessions on which the verdict was decided")]
    beats_baseline: Annotated[bool | None, Meta(description="whether the verdict is better; null without a verdict")]


class ModelSummary(Struct):
    """A model version in a list."""

    model_version: int
    status: Annotated[
        Literal["candidate", "production", "archived"],
        Meta(description="candidate: never served; production: serves now; archived: served earlier"),
    ]
    created_at: datetime
    run_id: Annotated[int, Meta(description="its training run")]
    trained_samples: int | None
    test_samples: int | None
    note: str | None
    artefact_bytes: Annotated[
        int | None, Meta(description="null if the artefact was pruned; such a version cannot serve")
    ]
    scores: VersionScores | None


class Models(Struct):
    models: Annotated[list[ModelSummary], Meta(description="newest first")]


class ModelDetail(ModelSummary, kw_only=True):
    """Everything that is stored about a model version. Versions from an older zap lack many of these fields."""

    evaluation: Annotated[
        dict[str, Any] | None, Meta(description="the scores of its training, and the baselines' scores")
    ]
    sha256: Annotated[str, Meta(description="the SHA-256 of its artefact")]
    file_sha256: Annotated[str | None, Meta(description="the SHA-256 of the model file that is made from its artefact")]
    hyper_parameters: dict[str, Any]
    hyper_parameters_from: str | None
    contract: Annotated[dict[str, Any], Meta(description="which fields a request must have, and their known values")]
    features: Annotated[
        list[dict[str, Any]] | None,
        Meta(description="the features in order, each with its dtype, and its unit and range or its known values"),
    ]
    columns: Annotated[list[str] | None, Meta(description="the columns of the booster's matrix, in order")]
    classes: Annotated[list[str] | None, Meta(description="the charger types, in order")]
    # These are texts: wall times have no offset, and an OpenAPI date-time needs one.
    trained_from: Annotated[str | None, Meta(description="start of the first session trained on, wall time")]
    trained_until: Annotated[str | None, Meta(description="start of the last session trained on, wall time")]
    tuned_until: Annotated[
        str | None, Meta(description="start of the newest session that the search for hyper-parameters has seen")
    ]
    rows_sha256: Annotated[
        str | None, Meta(description="the SHA-256 of the sessions trained on and of the sessions before them")
    ]
    rows_by_month: Annotated[
        dict[str, list[int | str]] | None, Meta(description="for each month, the number of sessions and their hash")
    ]
    trees_sha256: str | None
    seed: int | None
    libraries: dict[str, str] | None
    code_version: str | None
    golden_rows: Annotated[
        int,
        Meta(
            description="the number of stored requests that the version must answer as it did when it was trained;"
            " zap models show --json has them"
        ),
    ]


class Changed(Struct):
    """The result of a promotion or a rollback."""

    status: Literal["success"]
    from_version: Annotated[int | None, Meta(description="the version that served before; null if there was none")]
    to_version: Annotated[int, Meta(description="the version that serves now")]
    changed: Annotated[bool, Meta(description="false if the version already served; then no promotion is recorded")]


class PromotionRecord(Struct):
    """One change of the version in production."""

    promotion_id: int
    promoted_at: datetime
    action: Literal["promote", "rollback"]
    from_version: int | None
    to_version: int
    who: str | None
    why: str | None


class Promotions(Struct):
    promotions: Annotated[list[PromotionRecord], Meta(description="newest first")]


class ModelController(Controller):
    path = "/models"
    tags = ("models",)

    @get("/", operation_id="listModels", summary="The newest model versions", responses=problem_specs(400, 503))
    async def list(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> Models:
        rows = await state.threads.run(list_versions, state.engine, limit, before)
        return Models([ModelSummary(**row) for row in rows])

    @get(
        "/history",
        operation_id="listPromotions",
        summary="Which version served when, who changed it and why",
        responses=problem_specs(400, 503),
    )
    async def history(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> Promotions:
        rows = await state.threads.run(list_promotions, state.engine, limit, before)
        return Promotions([PromotionRecord(**row) for row in rows])

    @get(
        "/{model_version:int}",
        operation_id="getModel",
        summary="Everything that is stored about a model version",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> ModelDetail:
        check_number(request, model_version, "model version")
        known = await state.threads.run(read_version, state.engine, model_version)
        for name in ("trained_from", "trained_until", "tuned_until"):
            known[name] = known[name] and known[name].isoformat()
        # The golden rows themselves are sessions of drivers, so only their number is sent.
        return ModelDetail(golden_rows=len(known.pop("golden") or ()), **known)

    @post(
        "/{model_version:int}/promote",
        status_code=200,
        operation_id="promoteModel",
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
        return await _changed(state, promote_version, state.engine, model_version, reason)

    @post(
        "/rollback",
        status_code=200,
        operation_id="rollBack",
        summary="Put the previous version back into production",
        responses=problem_specs(400, 409, 413, 415, 422, 503),
    )
    async def roll_back(self, request: Request[Any, Any, State], state: State) -> Changed:
        """Put the previous version back into production. No body is needed.

        A second rollback goes back one version further.
        """
        reason = await _reason(request)
        return await _changed(state, roll_back, state.engine, reason)


async def _reason(request: Request[Any, Any, State]) -> Reason:
    body = await read_body(request.scope, request.receive, _LARGEST_BODY)
    check_json_or_nothing(request, body)
    return Reason.parse(body)


async def _changed(state: State, change: Callable[..., Change], *arguments: Any) -> Changed:
    def work() -> Change:
        done = change(*arguments)
        # The change is committed. If this refresh fails, the watch of production repeats it in a moment.
        with contextlib.suppress(SQLAlchemyError):
            state.production.refresh()
        return done

    return Changed("success", *await state.threads.to_its_end(work))
