"""The reply of POST /predict, which `zap predict` prints too."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from zap.controllers.explanation_reply import Explanation
from zap.db.log.prediction_log import Logged
from zap.ml.inference import Answer

# A prediction for a driver with fewer earlier sessions has low confidence.
NORMAL_FROM = 5


class PredictReply(Struct):
    """A prediction, which was committed before this reply was sent."""

    predicted_class: Annotated[str, Meta(description="the most probable charger type")]
    probabilities: Annotated[
        dict[str, float], Meta(description="the probability of every charger type; they add up to 1")
    ]
    input_id: Annotated[int, Meta(description="the row of the request in inference_inputs")]
    prediction_id: Annotated[int, Meta(description="the row of the prediction in predictions")]
    model_version: Annotated[int, Meta(description="the model version that predicted")]
    history_sessions: Annotated[int, Meta(description="how many past sessions of the driver the model used")]
    confidence: Annotated[
        Literal["low", "normal"], Meta(description=f"low with fewer than {NORMAL_FROM} past sessions")
    ]
    explanation: Annotated[
        Explanation | UnsetType | None,
        Meta(description="only if the request has explain: true. null if there is none; explanation_missing says why"),
    ] = UNSET
    explanation_missing: Annotated[
        str | UnsetType, Meta(description="why there is no explanation. The prediction itself is committed")
    ] = UNSET

    @classmethod
    def of(cls, answer: Answer, logged: Logged, explained: dict[str, Any] | str | None = None) -> Self:
        """Return the reply.

        Args:
            answer: the answer.
            logged: the ids of its rows.
            explained: the explanation, or why there is none; None if the client does not want one.
        """
        return cls(
            predicted_class=answer.predicted_class,
            probabilities=answer.probabilities,
            input_id=logged.input_id,
            prediction_id=logged.prediction_id,
            model_version=answer.model_version,
            history_sessions=answer.history_sessions,
            confidence="normal" if answer.history_sessions >= NORMAL_FROM else "low",
            explanation=UNSET
            if explained is None
            else None
            if isinstance(explained, str)
            else msgspec.convert(explained, Explanation),
            explanation_missing=explained if isinstance(explained, str) else UNSET,
        )
