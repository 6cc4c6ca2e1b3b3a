"""The options of a trial, from HTTP and from the command line."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from zap.formats.body_model import explained, limits
from zap.formats.json_body import wrong_whole
from zap.formats.promotion_reason import Reason
from zap.ml.features import Feature
from zap.monitoring.trials import EPSILON, LONGEST_WEEKS
from zap.scopes import PROMOTE
from zap.sentences import phrase, say

OnBetter = Literal["promote", "tell"]
_EPSILON = Feature(
    "epsilon",
    "number",
    "how much higher the Brier score (halved, 0 to 1) of a version may be that counts as not worse",
    EPSILON,
    "",
    0,
    0.5,
)
_WEEKS = Feature("weeks", "number", "the longest time of the trial", LONGEST_WEEKS, phrase("weeks"), 1, 52)


def _whole(value: Any) -> Any:
    """Return a whole number that some programs write with a fraction, such as 4.0, as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def needed_for(on_better: OnBetter) -> frozenset[str]:
    """Return the scopes that a key needs for a trial beside `train`: whatever may change what serves."""
    return frozenset({PROMOTE}) if on_better == "promote" else frozenset()


class TrialOptions(Reason):
    """The options of a trial, who begins it, and why."""

    epsilon: Annotated[float, *limits(_EPSILON)] = EPSILON
    weeks: Annotated[int, *limits(_WEEKS, wrong_whole), BeforeValidator(_whole)] = LONGEST_WEEKS
    on_better: Annotated[
        OnBetter,
        explained(lambda _: say("must be one of {choices:s}", choices=", ".join(get_args(OnBetter)))),
        Field(description="what follows if the version is better: promote puts it into production, tell reports it"),
    ] = "tell"
