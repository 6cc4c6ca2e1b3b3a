"""The options of a training, from HTTP, from the command line and from stored runs."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from zap.formats.body_model import BodyModel, NotNull, Text, explained, limits
from zap.formats.json_body import DAY_PATTERN, kind_of, read_time, unknown_field, wrong_text, wrong_whole
from zap.formats.values import LONGEST_TEXT
from zap.ml.column_groups import GROUPS, wrong_group
from zap.ml.estimator import DEFAULT_ESTIMATOR, Estimator
from zap.ml.features import Feature
from zap.scopes import PROMOTE
from zap.sentences import phrase, say

Promote = Literal["always", "if_better", "trial", "never"]

# The parameters of ChargerTypeModel that may be set, with their ranges.
HYPER_PARAMETERS = (
    Feature("n_estimators", "number", "boosting rounds", 200, phrase("rounds"), 1, 10_000),
    Feature("num_leaves", "number", "largest number of leaves of a tree", 40, phrase("leaves"), 2, 4096),
    Feature("learning_rate", "number", "weight of each tree", 0.05, "", 0, 1, minimum_excluded=True),
    Feature("max_depth", "number", "largest depth of a tree; -1 means no limit", -1, phrase("levels"), -1, 64),
    Feature(
        "colsample_bytree", "number", "share of the columns that each tree uses", 0.8, "", 0, 1, minimum_excluded=True
    ),
    Feature("subsample", "number", "share of the rows that each tree uses", 1.0, "", 0.1, 1),
    Feature("min_child_samples", "number", "smallest number of rows in a leaf", 20, phrase("rows"), 1, 1_000_000),
    Feature("reg_alpha", "number", "L1 regularisation", 1.0, "", 0, 1_000_000),
    Feature("reg_lambda", "number", "L2 regularisation", 0.0, "", 0, 1_000_000),
    Feature("random_state", "number", "seed", 42, "", 0, 2**31 - 1),
)
# The other parameter that may be set: a list.
LEFT_OUT = "left_out"
LEFT_OUT_IN_WORDS = f"groups of columns that the trees do not use, of {', '.join(GROUPS)}"
_NAMES = (*(parameter.name for parameter in HYPER_PARAMETERS), LEFT_OUT)
_TEST_SHARE = Feature(
    "test_share", "number", "share of the sessions to test on: the last sessions in time", 0.1, "", 0.01, 0.5
)
_TUNE_SEED = Feature("tune_seed", "number", "seed of the search; by default a random seed", 1, "", 0, 2**31 - 1)


def _wrong_groups(value: Any) -> str:
    """Return why a value is not accepted as a list of groups of columns."""
    if not isinstance(value, list):
        return say('must be a list of groups of columns, such as ["temperature"], not {kind}', kind=kind_of(value))
    return next(
        filter(None, map(wrong_group, value)),
        say("has {n} groups; there are only {most}", n=len(value), most=len(GROUPS)),
    )


def _read_moment(value: Any, info: ValidationInfo) -> datetime:
    """Return the wall time of a text. A datetime does not come from JSON, and is a wall time already."""
    if isinstance(value, datetime):
        return value
    if wrong := wrong_text(value):
        raise ValueError(wrong)
    wall_time: Any = info.context
    read = read_time(f"{value}T00:00" if len(value) == len("2026-03-02") else value, wall_time)
    if read is None:
        raise ValueError(say("is {value!r}; must be a date or a time such as 2026-03-02", value=value))
    return read[1]


if TYPE_CHECKING:
    HyperParameters = dict[str, int | float | list[str]]
else:
    _Groups = Annotated[
        list[Literal[tuple(GROUPS)]],
        Field(max_length=len(GROUPS), description=LEFT_OUT_IN_WORDS, examples=[["temperature"]]),
        explained(_wrong_groups),
    ]
    HyperParameters = TypedDict(
        "HyperParameters",
        {
            one.name: Annotated[int, *limits(one, wrong_whole)]
            if isinstance(one.example, int)
            else Annotated[float, *limits(one)]
            for one in HYPER_PARAMETERS
        }
        | {LEFT_OUT: _Groups},
        total=False,
    )
_Moment = Annotated[
    datetime | None,
    BeforeValidator(_read_moment, json_schema_input_type=str),
    Field(examples=["2026-01-01"], json_schema_extra={"maxLength": LONGEST_TEXT, "pattern": DAY_PATTERN}),
]
_Switch = Annotated[bool, explained(lambda value: say("must be true or false, not {kind}", kind=kind_of(value)))]
_Estimator = Annotated[
    Estimator, explained(lambda _: say("must be one of {choices:s}", choices=", ".join(get_args(Estimator))))
]
_Policy = Annotated[
    Promote, explained(lambda _: say("must be one of {choices:s}", choices=", ".join(get_args(Promote))))
]


def needed_for(promote: Promote) -> frozenset[str]:
    """Return the scopes that a key needs for a training beside `train`: whatever may change what serves."""
    return frozenset() if promote == "never" else frozenset({PROMOTE})


class TrainingOptions(BodyModel):
    """The options of a training."""

    # The context of `parse` and `read` converts a time to the drivers' wall time.
    history_from: Annotated[
        _Moment,
        Field(description="do not learn from sessions that started earlier; they stay part of their drivers' pasts"),
    ] = None
    history_to: Annotated[_Moment, Field(description="ignore sessions that started at this time or later")] = None
    test_share: Annotated[float, *limits(_TEST_SHARE)] = _TEST_SHARE.example
    estimator: Annotated[
        _Estimator,
        Field(
            description="what answers: LightGBM's trees alone, or a blend, which is their weighted mean with a"
            " logistic regression of the drivers' shares of types"
        ),
    ] = DEFAULT_ESTIMATOR
    hyper_parameters: Annotated[
        HyperParameters,
        Field(
            description="values that replace the values of the newest tuning or the defaults; with `tune`, every"
            " set that the search tries has these values"
        ),
    ] = Field(default_factory=dict)
    tune: Annotated[
        _Switch,
        Field(description="search for hyper-parameters first; this training and later trainings use the result"),
    ] = False
    windows: Annotated[
        _Switch,
        Field(
            description="also test on rolling windows of the history: as many as fit into its second half, at most five"
        ),
    ] = False
    nested: Annotated[
        _Switch,
        Field(
            description="with tune and windows: search again in the training part of each window, so that all windows"
            " count for the verdict"
        ),
    ] = False
    tune_seed: Annotated[int | None, NotNull, *limits(_TUNE_SEED, wrong_whole)] = None
    promote: Annotated[
        _Policy,
        Field(
            description="when the new version replaces the version in production; if_better compares both versions"
            " on sessions that neither has learned from; trial compares their answers to the requests of the next weeks"
        ),
    ] = "always"
    note: Annotated[Text | None, NotNull, Field(description="a text that is stored with the version")] = None

    # `info.data` has the fields above that have no error, so a field with an error causes no second error.

    @field_validator("history_to")
    @classmethod
    def _is_after_the_start(cls, until: datetime, info: ValidationInfo) -> datetime:
        if (since := info.data.get("history_from")) and until <= since:
            raise ValueError(say("is {until}; must be after history_from", until=until))
        return until

    @field_validator("nested")
    @classmethod
    def _has_windows_to_search_in(cls, nested: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if nested and not (info.data.get("tune", True) and info.data.get("windows", True)):
            raise ValueError(say("needs tune and windows, because it is a search in each window"))
        return nested

    @field_validator("tune_seed")
    @classmethod
    def _is_for_a_search(cls, seed: int, info: ValidationInfo) -> int:
        if not info.data.get("tune", True):
            raise ValueError(say("is the seed of a search; send tune: true too"))
        return seed

    @classmethod
    def unknown(cls, *names: str) -> str:
        return unknown_field(names[-1], cls.model_fields if len(names) == 1 else _NAMES)

    def as_dict(self) -> dict[str, Any]:
        """Return the options that differ from the defaults, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)
