"""GET /predictions: the answers to requests, with what happened after each of them."""

from typing import Annotated, Any, Literal

from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from zap.controllers.parameters import Before, Limit
from zap.controllers.problems import problem_specs
from zap.controllers.time_parameters import FromMoment, ToMoment, check_range, moment_parameter
from zap.db.log.prediction_list import Wanted
from zap.flows.prediction_list import list_predictions
from zap.formats.json_body import TEXT_PATTERN
from zap.formats.time_range import wrong_moments
from zap.formats.values import LARGEST_ID, LONGEST_TEXT
from zap.scopes import READ, needs

_ANY = "any"
_UNFOLLOWED = "null until the follower has read the answer"
# The empty text and 0, which are the defaults, stand for all: a parameter that may be null would also accept "null".
_TEXT: Any = {"max_length": LONGEST_TEXT, "pattern": TEXT_PATTERN}
_NUMBER: Any = {"ge": 0, "le": LARGEST_ID}


class ListedPrediction(Struct):
    """An answer to a request, with its outcome."""

    prediction_id: int
    input_id: Annotated[int | None, Meta(description="the request; null in rows of another program")]
    # No date-time, which needs an offset.
    request_timestamp: Annotated[
        str | None, Meta(description="when the request arrived: ISO 8601, in UTC; older rows have no offset")
    ]
    user_id: Annotated[str | None, Meta(description=f"the driver; {_UNFOLLOWED}")]
    asked_at: Annotated[
        str | None, Meta(description=f"the moment that was asked about, as the drivers' wall time; {_UNFOLLOWED}")
    ]
    model_version: Annotated[int | None, Meta(description="null in rows that are older than zap")]
    predicted_class: str
    probability: Annotated[float | None, Meta(description="of the predicted class; null in rows older than zap")]
    kind: Annotated[
        Literal["live", "backtest"] | None,
        Meta(description=f"backtest: the request asked about a moment long before it; {_UNFOLLOWED}"),
    ]
    outcome: Annotated[
        Literal["matched", "superseded", "waiting", "no_driver"] | None,
        Meta(
            description="matched: the session that followed is known; superseded: a later answer has this session;"
            f" waiting: no session is known so far; no_driver: the request named no driver; {_UNFOLLOWED}"
        ),
    ]
    actual_class: Annotated[str | None, Meta(description="the type that the driver used in this session")]
    session_id: Annotated[str | None, Meta(description="the session, by the id of its reports")]
    lag_seconds: Annotated[
        int | None, Meta(description="from the moment that was asked about to the start of the session")
    ]
    matched_by: Annotated[
        Literal["report", "time"] | None, Meta(description="report: the report of the session named the answer")
    ]
    superseded_by: Annotated[int | None, Meta(description="the later answer that has the session")]


class Predictions(Struct):
    predictions: Annotated[list[ListedPrediction], Meta(description="newest first")]
    next_before: Annotated[
        int | None,
        Meta(
            description="the parameter `before` of the next page; null if there are no more answers. A page may have"
            " fewer answers than its limit, or none, and still have a next page"
        ),
    ]
    removed_before: Annotated[
        str | None,
        Meta(
            description="on the last page: requests from before this moment (ISO 8601, UTC) were removed; null if none"
            " were, and on other pages"
        ),
    ]


class PredictionListController(Controller):
    tags = ("predictions",)

    @get(
        "/predictions",
        operation_id="listPredictions",
        opt=needs(READ),
        summary="The newest answers, and what happened after them",
        responses=problem_specs(400, 503),
    )
    async def list(  # noqa: PLR0913, PLR0917 - one for each parameter
        self,
        state: State,
        since: FromMoment = "",
        until: ToMoment = "",
        user_id: Annotated[str, QueryParameter(description="the driver", **_TEXT)] = "",
        version: Annotated[int, QueryParameter(description="the model version; 0: all", **_NUMBER)] = 0,
        predicted_class: Annotated[str, QueryParameter(description="the type that was predicted", **_TEXT)] = "",
        actual_class: Annotated[str, QueryParameter(description="the type that the driver used", **_TEXT)] = "",
        outcome: Annotated[
            Literal["any", "matched", "superseded", "waiting", "no_driver"],
            QueryParameter(description="what is known about the session that followed"),
        ] = "any",
        kind: Annotated[
            Literal["any", "live", "backtest"],
            QueryParameter(description="backtest: requests about a moment long before them"),
        ] = "any",
        input_id: Annotated[int, QueryParameter(description="the request; 0: all", **_NUMBER)] = 0,
        limit: Limit = 20,
        before: Before = LARGEST_ID,
    ) -> Predictions:
        """List the answers to requests, newest first. The predictions of trainings are not listed.

        All parameters can be combined. To read on, ask again with `before` set to `next_before`, until it is null. New
        answers do not change the pages that follow. The follower adds the driver and the outcome to an answer within a
        few seconds; until then the parameters `user_id`, `outcome`, `actual_class` and `kind` do not find the answer.
        """
        wanted = Wanted(
            since=moment_parameter("from", since),
            until=moment_parameter("to", until),
            user_id=user_id or None,
            model_version=version or None,
            predicted_class=predicted_class or None,
            actual_class=actual_class or None,
            outcome=None if outcome == _ANY else outcome,
            kind=None if kind == _ANY else kind,
            input_id=input_id or None,
        )
        check_range(wrong_moments(wanted.since, wanted.until))
        page = await state.threads.run(state.reads.read, list_predictions, wanted, limit, before)
        removed_before = page.removed_before and page.removed_before.isoformat()
        return Predictions([ListedPrediction(**row) for row in page.rows], page.before, removed_before)
