"""What /models answers about model versions and their scores."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


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


class ModelSummary(Struct, omit_defaults=True):
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
    synthetic_sessions: Annotated[
        int | None,
        Meta(
            description="sessions made by zap sample-history in the history of its training; with such sessions, the"
            " scores say nothing about real drivers. null for versions of an older zap"
        ),
    ]
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class Models(Struct):
    models: Annotated[list[ModelSummary], Meta(description="newest first")]


class Importance(Struct):
    """How much a column, or a group of columns, matters in the predictions of a version."""

    gain: Annotated[float, Meta(description="its share of the gain of all splits of the trees, 0 to 1")]
    contribution: Annotated[
        float,
        Meta(
            description="the mean absolute value of what it adds to ln(p1/p2), the log-ratio of the predicted type and"
            " the runner-up"
        ),
    ]


class Importances(Struct):
    """The importances of groups and columns, the largest contribution first."""

    sessions: Annotated[int, Meta(description="the test sessions on which the contributions were measured")]
    groups: Annotated[dict[str, Importance], Meta(description="by group; its columns are added first")]
    columns: Annotated[dict[str, Importance], Meta(description="by column of the booster's matrix")]


class UsualValues(Struct):
    """The usual values of a version's training sessions, which the reasons of explanations name."""

    sessions: Annotated[int, Meta(description="how many of the newest training sessions have these values")]
    medians: Annotated[dict[str, float], Meta(description="the median of each column with numbers")]
    shares: Annotated[
        dict[str, dict[str, float]],
        Meta(
            description="the share of each value of a category, of the quarter of the day (0 is 0:00 to 6:00) and of"
            " the weekday (0 is Monday)"
        ),
    ]


class Tested(Struct, rename={"from_": "from"}):
    """The test sessions of a version. Two versions with equal test sessions have an equal `sha256`."""

    sessions: int
    from_: Annotated[str, Meta(description="start of the first session, wall time")]
    until: Annotated[str, Meta(description="start of the last session, wall time")]
    sha256: str


class ModelDetail(ModelSummary, kw_only=True):
    """Everything that is stored about a model version. Versions from an older zap lack many of these fields."""

    evaluation: Annotated[
        dict[str, Any] | None, Meta(description="the scores of its training, and the baselines' scores")
    ]
    importances: Annotated[
        Importances | None, Meta(description="null for versions of an older zap: their importances are not known")
    ]
    usual_values: Annotated[UsualValues | None, Meta(description="null for versions of an older zap")]
    tested: Annotated[Tested | None, Meta(description="its test sessions; null for versions of an older zap")]
    sha256: Annotated[str, Meta(description="the SHA-256 of its artefact")]
    file_sha256: Annotated[str | None, Meta(description="the SHA-256 of the model file that is made from its artefact")]
    hyper_parameters: dict[str, Any] | None
    hyper_parameters_from: str | None
    contract: Annotated[
        dict[str, Any] | None, Meta(description="which fields a request must have, and their known values")
    ]
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
