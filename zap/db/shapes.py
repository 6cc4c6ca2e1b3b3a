"""The shapes of stored JSON, as far as zap reads it. Rows of an older zap may lack every part that is not required."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, NotRequired, Required, TypedDict

from msgspec import Meta

from zap.db.stored_json import Shape

_Interval = tuple[float, float] | None
OBJECT, LIST, TEXTS, COUNT, TEXT = Shape(), Shape(list[Any]), Shape(list[str]), Shape(int), Shape(str)
SHARES, COUNTS = Shape(dict[str, float]), Shape(dict[str, int], nullable=False)
KEY_SCOPES = Shape(list[str], nullable=False)
REMOVED = Shape(dict[str, int])
NEEDED_OBJECT, NEEDED_SHARES = Shape(nullable=False), Shape(dict[str, float], nullable=False)
BUCKETS = Shape(dict[Annotated[str, Meta(pattern="^[0-9]{1,3}$")], int], nullable=False)


class _Scores(TypedDict):
    weighted_f1: float
    log_loss: float
    macro_f1: NotRequired[float]


_Baselines = dict[str, _Scores]


class _Difference(TypedDict, total=False):
    log_loss_difference: float
    interval: _Interval


class _ClassScores(TypedDict):
    precision: float
    recall: float
    f1: float
    support: int


class _Bin(TypedDict):
    mean_confidence: float
    accuracy: float
    sessions: int


class _Calibration(TypedDict):
    expected_calibration_error: float
    bins: list[_Bin]


class _Slice(TypedDict):
    sessions: int
    weighted_f1: float
    log_loss: float
    baselines: _Baselines


_Slices = dict[str, _Slice | None] | None


class _TestOfWindows(TypedDict):
    test_samples: int
    weighted_f1: float
    macro_f1: float
    log_loss: float
    baselines: _Baselines


class _Window(_TestOfWindows):
    trained_samples: int


class _Windows(_TestOfWindows):
    each: list[_Window]
    best_baseline: str
    by_earlier_sessions: NotRequired[_Slices]
    by_types_used: NotRequired[_Slices]


class _Importance(TypedDict):
    gain: float
    contribution: float


class _Importances(TypedDict):
    sessions: int
    groups: dict[str, _Importance]
    columns: dict[str, _Importance]


class _UsualValues(TypedDict):
    sessions: int
    medians: dict[str, float]
    shares: dict[str, dict[str, float]]


class _Main(TypedDict):
    test_f1_score: float
    log_loss: float
    baselines: _Baselines
    best_baseline: str


# A part with the name "from", which is a word of Python, needs this form.
_Judged = TypedDict(
    "_Judged",
    {"sessions_of": str, "sessions": int, "verdict": str, "from": str | None, "until": str | None},
    total=False,
)
_Tested = TypedDict("_Tested", {"sessions": int, "from": datetime, "until": datetime, "sha256": str})
_EVALUATION_PARTS = {
    "verdict": str | None,
    "judged": _Judged | None,
    "beats_baseline": bool | None,
    "log_loss_difference": float,
    "log_loss_difference_interval": _Interval,
    "test_f1_interval": _Interval,
    "macro_f1": float,
    "accuracy": float,
    "effective_drivers": float | None,
    "calibration": _Calibration,
    "classes": list[str],
    "confusion_matrix": list[list[int]],
    "per_class": dict[str, _ClassScores],
    "parts": _Baselines | None,
    "baseline_differences": dict[str, _Difference] | None,
    "by_earlier_sessions": _Slices,
    "by_types_used": _Slices,
    "windows": _Windows | None,
    "importances": _Importances | None,
    "usual_values": _UsualValues | None,
    "tested": _Tested | None,
    "pooled_exponents": list[float] | None,
}


def _unfit_of_evaluation(evaluation: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of an evaluation that do not fit its other parts."""
    if evaluation["best_baseline"] not in evaluation["baselines"]:
        # Without them no score can be shown beside guessing.
        yield from ("baselines", "best_baseline")
    if evaluation.get("log_loss_difference_interval") and "log_loss_difference" not in evaluation:
        yield "log_loss_difference_interval"
    if evaluation.get("judged") and "beats_baseline" not in evaluation:
        yield "judged"
    windows = evaluation.get("windows")
    if windows and not _has_windows(windows):
        yield "windows"
    for name in ("by_earlier_sessions", "by_types_used"):
        if any(one is not None and not one["baselines"] for one in (evaluation.get(name) or {}).values()):
            yield name
    types = len(evaluation.get("classes") or ())
    matrix = evaluation.get("confusion_matrix") or ()
    if matrix and not (len(matrix) == types and all(len(row) == types for row in matrix)):
        yield "confusion_matrix"


def _has_windows(windows: dict[str, Any]) -> bool:
    slices = [one for name in ("by_earlier_sessions", "by_types_used") for one in (windows.get(name) or {}).values()]
    guessed = [*windows["each"], *(one for one in slices if one is not None)]
    return windows["best_baseline"] in windows["baselines"] and all(one["baselines"] for one in guessed)


EVALUATION = Shape(_Main, _EVALUATION_PARTS, _unfit_of_evaluation)


class _Feature(TypedDict):
    name: str
    in_requests: str


HYPER_PARAMETERS = Shape(dict[str, Any], {"left_out": list[str]}, nullable=False)
FEATURES = Shape(list[_Feature])
LIBRARIES = Shape(dict[str, str])
ROWS_BY_MONTH = Shape(dict[str, tuple[int, str]])


class _Decision(TypedDict):
    promoted: bool
    reason: str


class _Dropped(TypedDict, total=False):
    rows: dict[str, int]
    values: dict[str, dict[str, int]]
    strangers: dict[str, int]
    undated: dict[str, int]


class _CountedTypes(TypedDict):
    types: int
    sessions: int


class _LeftOutTypes(TypedDict):
    needed_sessions: int
    most_types: int
    too_few_sessions: _CountedTypes
    too_many_types: _CountedTypes


REPORT_PARTS: dict[str, Any] = {
    "model_version": int | None,
    "training_run": int | None,
    "tuning": int | None,
    "verdict": str | None,
    "detail": str | None,
    "title": str | None,
    "message": str | None,
    "log_loss": float | None,
    "default_log_loss": float | None,
    "test_f1_score": float | None,
    "trained_samples": int | None,
    "test_samples": int | None,
    "synthetic_sessions": int | None,
    "baselines": _Baselines,
    "best_baseline": str | None,
    "best_baseline_by_f1": str | None,
    "promotion": _Decision | None,
    "phases": dict[str, float] | None,
    "dropped": _Dropped | None,
    "left_out_types": _LeftOutTypes | None,
}


def _unfit_of_report(report: dict[str, Any]) -> Iterator[str]:
    baselines = report.get("baselines", {})
    for name in ("best_baseline", "best_baseline_by_f1"):
        if report.get(name) is not None and report[name] not in baselines:
            yield name


REPORT = Shape(dict[str, Any], REPORT_PARTS, _unfit_of_report)


class _Event(TypedDict):
    phase: str
    done: int
    total: int
    log_loss: NotRequired[float | None]


EVENT = Shape(_Event, nullable=False)
TUNED = Shape(dict[str, float | str | list[str] | None])
TUNING_EVIDENCE = Shape(
    dict[str, Any],
    {
        "log_loss": float,
        "default_log_loss": float,
        "sessions": int | None,
        "seen_until": datetime | None,
        "trials": list[Any],
    },
)


class _TrialEvidence(TypedDict, total=False):
    message: Required[str]
    verdict: str
    look: int
    until: datetime
    sessions: int
    drivers: int
    mean: float
    low: float
    high: float
    widest: float
    promoted: bool


TRIAL_EVIDENCE = Shape(_TrialEvidence)


class _Comparison(TypedDict):
    looks: int


class _TrialState(TypedDict):
    comparison: _Comparison
    answered: int
    refused: int


TRIAL_STATE = Shape(_TrialState)
