"""What GET /quality answers."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from zap.flows.training_report import BaselineDifference, Calibration, ClassScores, Scores, Slice


class Coverage(Struct):
    """The answers by what is known about their outcomes."""

    answers: int
    matched: Annotated[int, Meta(description="a session followed, and this answer counts for it")]
    superseded: Annotated[int, Meta(description="a session followed, but another answer counts for it")]
    waiting: Annotated[int, Meta(description="no session is known; on final days no session started in time")]
    no_driver: Annotated[int, Meta(description="the request named no driver, and no report named the answer")]
    with_driver: Annotated[int, Meta(description="the request named a driver")]
    unscored: Annotated[
        int,
        Meta(
            description="matched, but without a score: the log has no row, the session has no type, or zap has no model"
        ),
    ]
    label_coverage: Annotated[
        float | None, Meta(description="the share of answers whose session is known; null without answers")
    ]


class BriefScores(Struct):
    """The main scores on matched outcomes. They are computed as the scores of a training."""

    sessions: int
    weighted_f1: float
    macro_f1: float
    accuracy: float
    log_loss: float
    expected_calibration_error: float
    best_baseline: Annotated[str, Meta(description="the baseline with the lowest log loss on the same sessions")]
    log_loss_difference: Annotated[float, Meta(description="the log loss minus that of the best baseline")]
    log_loss_difference_interval: Annotated[
        list[float] | None, Meta(description="95 % interval over groups of drivers; null with too few groups")
    ]
    interval_note: Annotated[str | None, Meta(description="why there is no interval")]
    effective_drivers: Annotated[
        float,
        Meta(description="the effective number of groups of drivers, of which there are at most 1,024"),
    ]


class QualityScores(BriefScores):
    """All scores on matched outcomes, under the names that the evaluation of a version has."""

    weighted_f1_interval: list[float] | None
    per_class: dict[str, ClassScores]
    classes: Annotated[list[str], Meta(description="the types of the version, and then types that it does not know")]
    confusion_matrix: Annotated[
        list[list[int]], Meta(description="sessions: a row for each used type, a column for each predicted type")
    ]
    calibration: Calibration
    baselines: dict[str, Scores]
    best_baseline_by_f1: str
    baseline_differences: dict[str, BaselineDifference]
    unseen_type_sessions: Annotated[int, Meta(description="sessions with a type that the version does not know")]
    by_earlier_sessions: dict[str, Slice | None]
    by_types_used: dict[str, Slice | None]


class QualityPart(Struct):
    answers: Coverage
    scores: Annotated[QualityScores | None, Meta(description="null without a scored outcome")]


class QualityPeriod(Struct, rename={"from_": "from"}):
    """A day, a week from Monday on, or a month. A period with final and provisional days is shown as two periods."""

    from_: Annotated[str, Meta(description="its first day")]
    to: Annotated[str, Meta(description="its last day with answers")]
    final: Annotated[bool, Meta(description="whether all outcomes are known")]
    answers: Coverage
    scores: Annotated[BriefScores | None, Meta(description="null without a scored outcome")]


class Expected(Struct):
    """What accuracy the answers of the provisional days are expected to have. `blind_spot` says what it cannot see."""

    answers: int
    mean_confidence: Annotated[float, Meta(description="the mean probability of the predicted type")]
    expected_accuracy: Annotated[
        float, Meta(description="the mean accuracy that earlier answers with such probabilities had")
    ]
    corrected_by_sessions: Annotated[int, Meta(description="the final outcomes that it was corrected with")]


class Promise(Struct):
    """What the version scored on the test part of its training."""

    sessions: int | None
    weighted_f1: float
    macro_f1: float
    accuracy: float
    log_loss: float
    expected_calibration_error: float
    best_baseline: str
    log_loss_difference: float
    log_loss_difference_interval: list[float] | None


class VersionQuality(Struct, omit_defaults=True):
    model_version: int
    promise: Annotated[Promise | None, Meta(description="null for versions of an older zap")]
    final: Annotated[QualityPart | None, Meta(description="days whose outcomes are all known; null without answers")]
    provisional: Annotated[QualityPart | None, Meta(description="the later days; null without answers")]
    expected: Annotated[Expected | None, Meta(description="null without answers on provisional days")]
    periods: Annotated[list[QualityPeriod], Meta(description="in order; empty with by=total")]
    unreadable_days: Annotated[
        list[str],
        Meta(description="days whose answers or sums cannot be read, because another program has changed them"),
    ] = []


class QualityReply(Struct, rename={"from_": "from"}):
    kind: Literal["live", "backtest"]
    by: Literal["day", "week", "month", "total"]
    from_: Annotated[str, Meta(description="the first day")]
    to: Annotated[str, Meta(description="the last day")]
    final_until: Annotated[str | None, Meta(description="the last day whose outcomes are all known; null: no day")]
    versions: Annotated[
        list[VersionQuality], Meta(description="the versions with answers on these days, the newest first; at most 100")
    ]
    blind_spot: Annotated[str, Meta(description="what the expected accuracy cannot see")]
