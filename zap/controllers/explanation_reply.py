"""The explanation in replies of POST /predict and GET /predictions/{prediction_id}/explanation, and in commands."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

_GROUPS = (
    "what each group of columns adds to log_ratio: habit, last_sessions, time, charge_and_distance, weather, vehicle,"
    " user_type, other_drivers, usual_mix"
)


class ExplainedReason(Struct):
    """A reason of a prediction in words."""

    group: Annotated[str, Meta(description="the group of columns")]
    favours: Annotated[str, Meta(description="the type that the group makes more probable")]
    contribution: Annotated[
        float, Meta(description="what the group adds to log_ratio; negative if the group favours runner_up")
    ]
    text: str
    value: Annotated[str, Meta(description="the value of the column that adds the most within the group")]
    usual: Annotated[
        str | None, Meta(description="the usual value of this column in training; null if the version does not have it")
    ]


class ExplainedPart(Struct):
    """A part of the model: the trees, the logistic regression on the driver's shares, or the usual mix of types."""

    name: Literal["trees", "logistic", "usual_mix"]
    weight: Annotated[float, Meta(description="its weight in the prediction, 0 to 1")]
    log_ratio: Annotated[float, Meta(description="ln(p1/p2) of this part alone; its groups add up to it")]
    groups: Annotated[dict[str, float], Meta(description=_GROUPS)]


class Explanation(Struct):
    """Why the model chose the predicted type, and not the type with the second highest probability."""

    predicted_class: str
    runner_up: Annotated[str, Meta(description="the type with the second highest probability")]
    reasons: Annotated[list[ExplainedReason], Meta(description="at most four reasons, the largest first")]
    weights_in_words: Annotated[str, Meta(description="how much each part of the model weighs; what new drivers get")]
    new_driver: Annotated[bool, Meta(description="whether the driver has no earlier sessions")]
    log_ratio: Annotated[
        float,
        Meta(
            description="ln(p1/p2), where p1 is the probability of predicted_class and p2 that of runner_up."
            " The groups and averaging add up to it"
        ),
    ]
    groups: Annotated[dict[str, float], Meta(description=_GROUPS + ". It is the weighted sum over the parts")]
    averaging: Annotated[
        float,
        Meta(description="the rest, which the averaging of the parts adds to log_ratio; 0 if one part has all weight"),
    ]
    parts: list[ExplainedPart]
