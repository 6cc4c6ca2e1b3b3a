"""The report of a training. The training run stores it, and it is the reply of `POST /train-model`."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from zap.ml.estimator import Estimator
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS


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
    """How well the probability of the predicted type agrees with how often that type was right."""

    expected_calibration_error: Annotated[
        float, Meta(description="mean distance between accuracy and confidence, weighted by the sessions of each bin")
    ]
    bins: Annotated[
        list[ReliabilityBin], Meta(description="the test sessions, grouped by the probability of the predicted type")
    ]


class SliceScores(Struct):
    weighted_f1: float
    log_loss: float


class Slice(Struct):
    """The scores on one group of the test sessions."""

    sessions: int
    weighted_f1: float
    log_loss: float
    baselines: dict[str, SliceScores]


class BaselineDifference(Struct):
    log_loss_difference: Annotated[float, Meta(description="the model's log loss minus the baseline's")]
    interval: Annotated[
        list[float] | None, Meta(description="95 % interval over drivers; null with too few effective drivers")
    ]
    interval_of_all: Annotated[
        list[float] | None,
        Meta(description="95 % interval that holds for all baselines at once"),
    ]


class Judged(Struct, rename={"from_": "from"}):
    """The sessions that decide the verdict, and the scores on them. No search for hyper-parameters has seen them.

    If the search has seen all sessions, only the first three fields are there.
    """

    sessions_of: Annotated[str, Meta(description="in words: the part of the history that these sessions are")]
    sessions: int
    verdict: Literal["better", "not_shown", "worse"]
    from_: Annotated[str | UnsetType, Meta(description="start of the first session, wall time")] = UNSET
    until: Annotated[str | UnsetType, Meta(description="start of the last session, wall time")] = UNSET
    past_known: Annotated[bool | UnsetType, Meta(description="whether any of the drivers had earlier sessions")] = UNSET
    effective_drivers: float | UnsetType = UNSET
    unseen_type_sessions: int | UnsetType = UNSET
    weighted_f1: float | UnsetType = UNSET
    log_loss: float | UnsetType = UNSET
    baselines: dict[str, Scores] | UnsetType = UNSET
    best_baseline: str | UnsetType = UNSET
    best_baseline_by_f1: str | UnsetType = UNSET
    baseline_differences: dict[str, BaselineDifference] | UnsetType = UNSET
    log_loss_difference: float | UnsetType = UNSET
    log_loss_difference_interval: list[float] | UnsetType | None = UNSET


class Window(Struct):
    trained_samples: int
    test_samples: int
    weighted_f1: float
    macro_f1: float
    log_loss: float
    parts: dict[str, Scores]
    baselines: dict[str, Scores]


class Windows(Struct):
    """Scores over rolling windows, for each window and pooled.

    By default models are trained on the first 50, 60, ... 90 % of the sessions, each tested on the next 10 %. With
    hyper-parameters from a tuning, the search has seen the test sessions of all windows but the last, unless each
    window had a search of its own (`nested`). Such windows do not decide the verdict, and their scores are too good.
    """

    each: list[Window]
    test_samples: int
    weighted_f1: float
    macro_f1: float
    log_loss: float
    parts: dict[str, Scores]
    baselines: dict[str, Scores]
    best_baseline: str
    best_baseline_by_f1: str
    baseline_differences: dict[str, BaselineDifference]
    log_loss_difference: float
    log_loss_difference_interval: list[float] | None
    effective_drivers: float
    unseen_type_sessions: int
    verdict: Literal["better", "not_shown", "worse"]
    judged: Judged
    beats_baseline: bool
    by_earlier_sessions: dict[str, Slice | None]
    by_types_used: dict[str, Slice | None]


class Reporting(Struct):
    """How late the newest sessions were stored, and what follows for the columns of the present."""

    delay_minutes: Annotated[
        int | None,
        Meta(description="95 % of the newest sessions were stored within this time after their start; null: not known"),
    ]
    delay_in_words: str
    measured_sessions: Annotated[int, Meta(description="the sessions with which the delay was measured")]
    without_end: Annotated[float, Meta(description="the share of the newest sessions without an end and a duration")]
    without_end_lately: Annotated[
        float, Meta(description="this share of the sessions of the last day that should have ended by now")
    ]
    lag_minutes: Annotated[
        int, Meta(description="ZAP_ASKED_BEFORE_MINUTES plus the delay, if the delay is longer than a minute")
    ]
    left_out: Annotated[dict[str, str], Meta(description="groups of columns that were left out, with the reasons")]


class Dropped(Struct):
    rows: Annotated[dict[str, int], Meta(description="how many sessions were left out, by reason")]
    values: Annotated[
        dict[str, dict[str, int]], Meta(description="how many values count as missing, by column and reason")
    ]
    strangers: Annotated[
        dict[str, int], Meta(description="how many sessions have a user or vehicle that the history does not contain")
    ]
    undated: Annotated[
        dict[str, int],
        Meta(
            description="by column, how many sessions were given today's value because the value at the time of the"
            " session is not stored"
        ),
    ]


class TypesOfBoth(Struct):
    """The comparison of two versions on the sessions of the charger types that both learned."""

    sessions: int
    candidate_log_loss: Annotated[float | UnsetType, Meta(description="left out without sessions")] = UNSET
    production_log_loss: float | UnsetType = UNSET
    difference: float | UnsetType = UNSET


class Comparison(Struct):
    """The new version beside the version in production, on sessions that neither was trained on."""

    with_version: Annotated[int, Meta(description="the version in production")]
    sessions: int
    drivers: int
    effective_drivers: float
    candidate_log_loss: Annotated[float, Meta(description="of the new version")]
    production_log_loss: float
    difference: Annotated[float, Meta(description="the new version's log loss minus the other's")]
    interval: Annotated[
        list[float] | None, Meta(description="95 % interval over drivers; null with too few effective drivers")
    ]
    types_of_both: Annotated[TypesOfBoth | None, Meta(description="null if both versions learned all types")]


class Decision(Struct):
    """Whether the new version serves, and why."""

    promoted: bool
    reason: str
    comparison: Annotated[
        Comparison | None,
        Meta(
            description="with if_better: the log loss of the new version and of the one in production, on sessions that"
            " neither was trained on"
        ),
    ]
    trial: Annotated[
        int | None, Meta(description="with trial: the number of the trial that has begun, at /trials/{trial_id}")
    ] = None


class CountedTypes(Struct):
    """How many charger types were left out for one reason."""

    types: int
    sessions: int
    largest: Annotated[dict[str, int], Meta(description="the sessions of the 20 largest types")]


class LeftOutTypes(Struct):
    """The charger types that were not learned. Their sessions count in the drivers' histories only."""

    needed_sessions: Annotated[int, Meta(description="how many sessions a type needs to be learned")]
    most_types: Annotated[int, Meta(description="the largest number of learned types; the most frequent are learned")]
    too_few_sessions: CountedTypes
    too_many_types: Annotated[
        CountedTypes, Meta(description="types with enough sessions that are not among the most frequent types")
    ]


class TrainReply(Struct):
    """The report of a training: the scores of its model, beside the scores of the baselines on the same sessions."""

    status: Literal["success"]
    message: str
    model_path: str
    test_f1_score: Annotated[float, Meta(description="weighted F1 on the last 10 % of the sessions")]
    trained_samples: int
    test_samples: int
    model_version: int
    training_run: Annotated[int, Meta(description="the training run, at /training-runs/{run_id}")]
    promotion: Decision
    test_f1_interval: Annotated[
        list[float] | None, Meta(description="95 % interval over drivers; null with too few effective drivers")
    ]
    macro_f1: float
    accuracy: float
    log_loss: float
    per_class: dict[str, ClassScores]
    confusion_matrix: Annotated[
        list[list[int]], Meta(description="rows: used type, columns: predicted type, in the order of classes")
    ]
    classes: list[str]
    estimator: Annotated[
        Estimator,
        Meta(
            description="what answers: LightGBM's trees alone, or a blend, which is their weighted mean with a"
            " logistic regression of the drivers' shares of types"
        ),
    ]
    logistic_weight: Annotated[
        float,
        Meta(
            description="for a driver with earlier sessions: the weight of the logistic regression; the rest is the"
            " weight of the trees. It is 0 with the estimator lightgbm"
        ),
    ]
    asked_before_minutes: Annotated[
        int,
        Meta(
            description="how many minutes before a session its driver asks. The scores belong to answers that know"
            " what all drivers did until that moment, and nothing later. If sessions are stored late, see"
            " lag_minutes"
        ),
    ]
    at_plug_in: Annotated[
        Scores | None,
        Meta(
            description="the scores on the test sessions if drivers asked when a session starts. No answer to a driver"
            " who asks earlier can reach these scores. null without windows: true, or without a lag"
        ),
    ]
    reporting: Reporting
    parts: Annotated[
        dict[str, Scores],
        Meta(
            description="the scores of the trees alone, of the logistic regression alone (logistic), and of the blend"
            " of both, with either estimator; one of them is the model. There is no logistic if too few training"
            " sessions have drivers with earlier sessions"
        ),
    ]
    baselines: Annotated[
        dict[str, Scores],
        Meta(
            description="predictions without a model. prior: the share of each type in the training sessions."
            " driver_share: the smoothed share of each type in the driver's earlier sessions."
            " driver_share_time_of_day: this share at the time of day of the session. driver_share_recent: this share"
            " with more weight on recent sessions. pooled_shares: the product of these shares, each with an exponent"
            " that is fitted on the training sessions"
        ),
    ]
    best_baseline: Annotated[str, Meta(description="the baseline with the lowest log loss")]
    best_baseline_by_f1: Annotated[str, Meta(description="the baseline with the highest weighted F1")]
    baseline_differences: Annotated[
        dict[str, BaselineDifference], Meta(description="the model compared with each baseline on the last part")
    ]
    log_loss_difference: Annotated[float, Meta(description="the model's log loss minus the best baseline's")]
    log_loss_difference_interval: Annotated[list[float] | None, Meta(description="95 % interval over drivers")]
    effective_drivers: Annotated[
        float,
        Meta(
            description="(sum n)^2 / sum n^2, where n is the number of sessions of each driver. If all drivers have"
            " equally many sessions, it is the number of drivers. There are no intervals below"
            f" {FEWEST_EFFECTIVE_DRIVERS}"
        ),
    ]
    unseen_type_sessions: Annotated[
        int,
        Meta(
            description="test sessions of types that are not in the training sessions; the model and every baseline"
            " give such a type the probability 1 / (n + k), for n training sessions and k types"
        ),
    ]
    calibration: Calibration
    by_earlier_sessions: Annotated[
        dict[str, Slice | None],
        Meta(description="scores by the number of the driver's earlier sessions: 0, 1-4, 5-19, 20+"),
    ]
    by_types_used: Annotated[
        dict[str, Slice | None],
        Meta(description="scores by the number of types in the driver's earlier sessions: none, one, several"),
    ]
    windows: Annotated[Windows | None, Meta(description="null unless the request had windows: true")]
    verdict: Annotated[
        Literal["better", "not_shown", "worse"],
        Meta(
            description="better: the interval of the difference to every baseline lies below zero. worse: the"
            " interval_of_all of the difference to at least one baseline lies above zero. not_shown: neither"
        ),
    ]
    judged: Annotated[
        Judged, Meta(description="the sessions that decide the verdict; no search for hyper-parameters has seen them")
    ]
    beats_baseline: Annotated[bool, Meta(description="whether the verdict is better")]
    label_meaning: str
    dropped: Dropped
    left_out_types: LeftOutTypes
    synthetic_sessions: Annotated[int, Meta(description="sessions made by zap sample-history")]
    hyper_parameters: dict[str, Any]
    hyper_parameters_from: Annotated[
        str,
        Meta(
            description="defaults, or the number of a tuning; then the hyper-parameters that the request set",
            examples=["tuning 1"],
        ),
    ]
    test_sessions_seen_by_search: Annotated[
        int,
        Meta(
            description="test sessions that the search for hyper-parameters has seen; they make the scores look better"
        ),
    ]
    new_driver_weight: Annotated[
        float,
        Meta(
            description="for a driver without earlier sessions: the weight of the model; the rest is the weight of the"
            " overall shares of the types"
        ),
    ]
    note: str | None
    phases: Annotated[dict[str, float], Meta(description="how many seconds each phase took")]
