"""OutcomeChange: how the outcome of one answer has changed. The follower finds the changes, and the sums count them."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple


class OutcomeState(NamedTuple):
    """What is known about the outcome of an answer. The fields are columns of `outcomes`.

    Attributes:
        asked_at: the moment that was asked about, as the drivers' wall time.
        kind: `live` or `backtest`.
        status: `matched`, `superseded`, `waiting` or `no_driver`.
        actual_class: the type that the driver used; None without a session, or if the session has no type.
        lag_seconds: from the moment that was asked about to the start of the session; None without a session.
    """

    asked_at: datetime
    kind: str
    status: str
    actual_class: str | None = None
    lag_seconds: int | None = None


class OutcomeChange(NamedTuple):
    """The change of the outcome of one answer.

    Attributes:
        prediction_id: the answer.
        model_version: the version that answered; None for an answer that is older than zap.
        user_id: the driver of the request; None if the request named none.
        predicted_class: the answered type.
        probabilities: the answered probability of each type; None for an older answer.
        features: the scored row, little-endian float64; None for an older answer.
        before: the outcome before the change; None if the answer was not followed yet.
        after: the outcome after the change; None if the outcome was removed.
    """

    prediction_id: int
    model_version: int | None
    user_id: str | None
    predicted_class: str
    probabilities: Mapping[str, float] | None
    features: bytes | None
    before: OutcomeState | None
    after: OutcomeState | None
