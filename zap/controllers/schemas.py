"""What the API gives. (What it takes is in zap/ml/request.py and zap/ml/session_report.py.)"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct

from zap.db.prediction_log import Logged
from zap.ml.inference import Answer

# Of a driver with fewer earlier sessions little is known.
NORMAL_FROM = 5


class PredictReply(Struct):
    """An answer that is in the database already."""

    predicted_class: Annotated[str, Meta(description="the most probable charger type")]
    probabilities: Annotated[dict[str, float], Meta(description="of every charger type; they add up to 1")]
    input_id: Annotated[int, Meta(description="the row of the request in inference_inputs")]
    prediction_id: Annotated[int, Meta(description="the row of the answer in predictions")]
    model_version: Annotated[int, Meta(description="the version that answered")]
    history_sessions: Annotated[int, Meta(description="earlier sessions of the driver that were known")]
    confidence: Annotated[
        Literal["low", "normal"], Meta(description=f"low with fewer than {NORMAL_FROM} earlier sessions")
    ]

    @classmethod
    def of(cls, answer: Answer, logged: Logged) -> Self:
        return cls(
            predicted_class=answer.predicted_class,
            probabilities=answer.probabilities,
            input_id=logged.input_id,
            prediction_id=logged.prediction_id,
            model_version=answer.model_version,
            history_sessions=answer.history_sessions,
            confidence="normal" if answer.history_sessions >= NORMAL_FROM else "low",
        )


class FieldError(Struct, omit_defaults=True):
    pointer: Annotated[str, Meta(description="JSON pointer to the field", examples=["#/temperature_c"])]
    detail: str
    line: Annotated[int | None, Meta(description="of a CSV body: where the row begins; the header is line 1")] = None


class RefusedRow(Struct, omit_defaults=True):
    """A row of a batch that is not answered, in its place among the answers."""

    errors: Annotated[list[FieldError], Meta(description="every bad field of the row")]
    line: Annotated[int | None, Meta(description="of NDJSON and CSV: where the row stands; the first line is 1")] = None


class BatchReply(Struct):
    """Answers that are in the database already."""

    status: Literal["success"]
    answered: Annotated[int, Meta(description="rows with an answer")]
    skipped: Annotated[int, Meta(description="rows with errors; with on_error=fail always 0")]
    # msgspec writes a union of two structs but describes none: what may stand here says the OpenAPI document.
    predictions: Annotated[
        list[Any],
        Meta(description="one for each row, in order; in the place of a skipped row its errors"),
    ]


class PredictionRecord(Struct):
    """A prediction as it stands in the database, with the request that it answered."""

    prediction_id: int
    source: Literal["train", "inference"]
    predicted_class: str
    actual_class: Annotated[str | None, Meta(description="known for a training's own rows only")]
    probabilities: Annotated[dict[str, float] | None, Meta(description="null on rows older than zap")]
    model_version: Annotated[int | None, Meta(description="null on rows older than zap")]
    prediction_timestamp: Annotated[
        str,
        Meta(description="ISO 8601; with +00:00 when zap wrote it, without an offset (zone unknown) before zap"),
    ]
    input_id: Annotated[int | None, Meta(description="null for a training's own rows")]
    request_timestamp: str | None
    request: Annotated[Any, Meta(description="the JSON as the client sent it")]


class Scores(Struct):
    weighted_f1: float
    macro_f1: float
    log_loss: float


class ClassScores(Struct):
    precision: float
    recall: float
    f1: float
    support: Annotated[int, Meta(description="test sessions of this type")]


class ReliabilityBin(Struct, rename={"from_": "from"}):
    from_: float
    to: float
    sessions: int
    mean_confidence: float
    accuracy: float


class Calibration(Struct):
    """How far the probability of the predicted type can be taken at its word."""

    expected_calibration_error: Annotated[
        float, Meta(description="mean distance of accuracy and confidence over the bins, weighted by their sessions")
    ]
    bins: Annotated[list[ReliabilityBin], Meta(description="by the probability of the predicted type")]


class SliceScores(Struct):
    weighted_f1: float
    log_loss: float


class Slice(Struct):
    """Scores on some of the test sessions."""

    sessions: int
    weighted_f1: float
    log_loss: float
    baselines: dict[str, SliceScores]


class Window(Struct):
    trained_samples: int
    test_samples: int
    weighted_f1: float
    macro_f1: float
    log_loss: float
    baselines: dict[str, Scores]


class Windows(Struct):
    """Rolling windows: by default models of the first 50, 60, ... 90 %, each tested on the next 10 %; then all pooled.

    With hyper-parameters from a tuning, all windows but the last lie inside what the search has seen.
    """

    each: list[Window]
    test_samples: int
    weighted_f1: float
    macro_f1: float
    log_loss: float
    baselines: dict[str, Scores]
    best_baseline: str
    log_loss_difference: float
    log_loss_difference_interval: list[float] | None
    beats_baseline: bool
    by_earlier_sessions: dict[str, Slice | None]
    by_types_used: dict[str, Slice | None]


class Dropped(Struct):
    rows: Annotated[dict[str, int], Meta(description="sessions left out, by reason")]
    values: Annotated[dict[str, dict[str, int]], Meta(description="values counted as missing, by column and reason")]
    strangers: Annotated[dict[str, int], Meta(description="sessions whose user or vehicle the history does not know")]


class Decision(Struct):
    """Whether the new version serves, and why."""

    promoted: bool
    reason: str
    comparison: Annotated[
        dict[str, Any] | None,
        Meta(description="with if_better: the log losses of both on sessions that neither learned from"),
    ]


class TrainReply(Struct):
    """What a training did and what its model is worth, beside what guessing scores on the same sessions."""

    status: Literal["success"]
    message: str
    model_path: str
    test_f1_score: Annotated[float, Meta(description="weighted F1 on the last 10 % of the sessions")]
    trained_samples: int
    test_samples: int
    model_version: int
    training_run: Annotated[int, Meta(description="the run, at /training-runs/{run_id}")]
    promotion: Decision
    test_f1_interval: Annotated[
        list[float] | None, Meta(description="95 %, drivers resampled; null with fewer than ten drivers")
    ]
    macro_f1: float
    accuracy: float
    log_loss: float
    per_class: dict[str, ClassScores]
    confusion_matrix: Annotated[list[list[int]], Meta(description="rows: used, columns: predicted, as in classes")]
    classes: list[str]
    baselines: Annotated[
        dict[str, Scores],
        Meta(
            description="guessing: prior, and the driver's smoothed share of past types: driver_share, the same by"
            " time of day in driver_share_time_of_day, and with the recent ones weighing more in driver_share_recent"
        ),
    ]
    best_baseline: Annotated[str, Meta(description="the one with the lowest log loss")]
    log_loss_difference: Annotated[float, Meta(description="the model's less the best baseline's")]
    log_loss_difference_interval: Annotated[list[float] | None, Meta(description="95 %, drivers resampled")]
    calibration: Calibration
    by_earlier_sessions: Annotated[
        dict[str, Slice | None], Meta(description="by how many earlier sessions the driver had: 0, 1-4, 5-19, 20+")
    ]
    by_types_used: Annotated[dict[str, Slice | None], Meta(description="drivers who have used one type, or several")]
    windows: Annotated[Windows | None, Meta(description="null unless they were asked for")]
    beats_baseline: Annotated[
        bool,
        Meta(
            description="true when the whole interval of the difference lies below zero,"
            " over the windows where they were asked for"
        ),
    ]
    label_meaning: str
    dropped: Dropped
    synthetic_sessions: Annotated[int, Meta(description="sessions made by zap sample-history")]
    hyper_parameters: dict[str, Any]
    hyper_parameters_from: Annotated[
        str,
        Meta(description="defaults, or the number of a tuning; and what the request set", examples=["tuning 1"]),
    ]
    test_sessions_seen_by_search: Annotated[
        int,
        Meta(description="test sessions that the search for the hyper-parameters has seen: these flatter the scores"),
    ]
    new_driver_weight: Annotated[
        float, Meta(description="the model's weight for a driver without a past; the rest is the usual mix's")
    ]
    note: str | None
    phases: Annotated[dict[str, float], Meta(description="seconds in each phase")]


class VersionScores(Struct):
    """What a version scored in its training, beside the best guess."""

    test_f1_score: float
    log_loss: float
    best_baseline: str
    best_baseline_log_loss: float
    beats_baseline: bool


class ModelSummary(Struct):
    """A model version in a list."""

    model_version: int
    status: Annotated[
        Literal["candidate", "production", "archived"],
        Meta(description="candidate: never served; production: serves; archived: served before"),
    ]
    created_at: datetime
    run_id: Annotated[int, Meta(description="its training run")]
    trained_samples: int | None
    test_samples: int | None
    note: str | None
    artefact_bytes: Annotated[int | None, Meta(description="null once they were pruned; then it cannot serve")]
    scores: VersionScores | None


class Models(Struct):
    models: Annotated[list[ModelSummary], Meta(description="newest first")]


class ModelDetail(Struct):
    """All that is known of a model version. Versions of an older zap lack much of it."""

    model_version: int
    status: Literal["candidate", "production", "archived"]
    created_at: datetime
    run_id: int
    trained_samples: int | None
    test_samples: int | None
    note: str | None
    artefact_bytes: int | None
    evaluation: Annotated[dict[str, Any] | None, Meta(description="the scores of its training, and those of guessing")]
    sha256: Annotated[str, Meta(description="of its artefact")]
    hyper_parameters: dict[str, Any]
    hyper_parameters_from: str | None
    contract: Annotated[dict[str, Any], Meta(description="what a request must carry")]
    features: Annotated[
        list[dict[str, Any]] | None, Meta(description="in order, with dtype, and unit and range or known values")
    ]
    columns: Annotated[list[str] | None, Meta(description="what the booster sees, in order")]
    classes: Annotated[list[str] | None, Meta(description="the charger types, in order")]
    trained_from: Annotated[datetime | None, Meta(description="start of the first session trained on, wall time")]
    trained_until: Annotated[datetime | None, Meta(description="start of the last session trained on, wall time")]
    tuned_until: Annotated[
        datetime | None, Meta(description="start of the newest session that the search for hyper-parameters has seen")
    ]
    rows_sha256: Annotated[str | None, Meta(description="of the sessions trained on and those before them")]
    rows_by_month: Annotated[
        dict[str, list[int | str]] | None, Meta(description="of each month the number of sessions, and their hash")
    ]
    trees_sha256: str | None
    seed: int | None
    libraries: dict[str, str] | None
    code_version: str | None
    golden_rows: Annotated[
        int, Meta(description="requests that it must answer as when it was trained; zap models show has them")
    ]


class Changed(Struct):
    """What serves now."""

    status: Literal["success"]
    from_version: Annotated[int | None, Meta(description="what served before; null if nothing did")]
    to_version: int
    changed: Annotated[bool, Meta(description="false where the version served already: then nothing is recorded")]


class PromotionRecord(Struct):
    """One change of what serves."""

    promotion_id: int
    promoted_at: datetime
    action: Literal["promote", "rollback"]
    from_version: int | None
    to_version: int
    who: str | None
    why: str | None


class Promotions(Struct):
    promotions: Annotated[list[PromotionRecord], Meta(description="newest first")]


class RunProgress(Struct, omit_defaults=True):
    """How far a run has come."""

    phase: str
    done: int
    total: int
    log_loss: Annotated[float | None, Meta(description="of boosting: mean, on the training rows so far")] = None


class RunSummary(Struct):
    """A training run in a list."""

    run_id: int
    kind: Annotated[Literal["train", "tune"], Meta(description="tune: a search for hyper-parameters alone")]
    status: Literal["running", "finished", "failed", "cancelled"]
    started_at: datetime
    heartbeat_at: Annotated[datetime | None, Meta(description="when its process was last heard of")]
    finished_at: datetime | None
    options: Annotated[dict[str, Any] | None, Meta(description="what was asked for")]


class Runs(Struct):
    training_runs: Annotated[list[RunSummary], Meta(description="newest first")]


class RunDetail(RunSummary, kw_only=True):
    """A training run, with how far it has come or what came of it."""

    progress: RunProgress | None
    report: Annotated[
        dict[str, Any] | None,
        Meta(description="of a finished one the reply of /train-model, of one that failed the problem"),
    ]


class Live(Struct):
    status: Literal["alive"]
    version: str


class Ready(Struct):
    """Whether this process can answer, and what is in the way when it cannot."""

    status: Literal["ready", "not ready"]
    checks: Annotated[dict[str, str], Meta(description="ok, or what is wrong")]
    model_version: int | None
    refused_version: Annotated[
        str | None, Meta(description="the version that should serve but cannot be loaded here, and why")
    ]
    model_file_restored: Annotated[
        dict[str, Any] | None, Meta(description="when and why the model file was restored from the database, if it was")
    ]
    refused_requests: Annotated[
        int, Meta(description="4xx replies of this process since its start, and rows refused alone")
    ]


class Problem(Struct, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: Annotated[str, Meta(examples=["urn:zap:problem:invalid-request"])]
    title: str
    status: int
    detail: str
    request_id: Annotated[str, Meta(description="stands in the log too")]
    errors: Annotated[list[FieldError] | None, Meta(description="every bad field of the request")] = None
    training_run: Annotated[
        str | None, Meta(description="where the training is that is in the way", examples=["/training-runs/7"])
    ] = None


class SessionsReply(Struct):
    """What became of the reported sessions; it is in the database already."""

    status: Literal["success"]
    added: Annotated[int, Meta(description="sessions that were not known before")]
    updated: Annotated[int, Meta(description="sessions of which something new is known now")]
    unchanged: Annotated[int, Meta(description="sessions of which all this was known already")]
