"""GET /pages/models/{number}: everything that is stored about one version."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy import Engine

from zap.db.monitoring.trials import newest_trial
from zap.db.runs.training_runs import read_run
from zap.db.versions.model_registry import list_versions, read_version
from zap.db.versions.promotions import list_promotions, rollback_target
from zap.db.versions.tunings import read_tuning
from zap.errors import NotFound
from zap.formats.training_options import HYPER_PARAMETERS
from zap.ml.estimator import DEFAULT_ESTIMATOR, OF_OLDER_VERSIONS
from zap.pages.figures import Bin
from zap.pages.models import known_number
from zap.pages.page import answer_reading
from zap.public import PAGE
from zap.scopes import READ, needs

_CHANGES, _OTHERS = 10, 20
_DEFAULTS = {**{one.name: one.example for one in HYPER_PARAMETERS}, "estimator": DEFAULT_ESTIMATOR, "left_out": []}
# The shades of a cell of the confusion matrix, from none to all sessions of a type.
_SHADES = 5


class ScoreRow(NamedTuple):
    """The scores of the model, of a part of it, or of a baseline, on the test sessions.

    Attributes:
        name: `model`, or a key of PART_WORDS or BASELINE_WORDS in `words`.
        kind: `model`, `part` or `baseline`.
        scores: its weighted F1, macro F1 and log loss.
        difference: the log loss of the model minus the log loss of this baseline; None for the others.
        interval: the interval of the difference; None with too few drivers.
    """

    name: str
    kind: str
    scores: Mapping[str, float]
    difference: float | None = None
    interval: list[float] | None = None


class Parameter(NamedTuple):
    """A hyper-parameter of a version, and its default; `is_default` is None if there is no default."""

    name: str
    value: Any
    default: Any
    is_default: bool | None


@get("/pages/models/{written:str}", opt=PAGE | needs(READ))
async def one_model(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Show a version.

    Raises:
        NotFound: there is no such version.
    """
    number = known_number(written, "model version")
    return await answer_reading(request, "one_model.html", _read, number)


def _read(engine: Engine, number: int) -> Mapping[str, Any]:
    version = read_version(engine, number)
    evaluation = version["evaluation"] or {}
    report = read_run(engine, version["run_id"])["report"] or {}
    others = [one["model_version"] for one in list_versions(engine, _OTHERS) if one["model_version"] != number]
    serves = version["status"] == "production"
    return {
        "stored": version,
        "evaluation": evaluation,
        "judged": evaluation.get("judged") or {},
        "windows": evaluation.get("windows"),
        "rows": _score_rows(evaluation),
        "calibration": evaluation.get("calibration"),
        "bins": _bins(evaluation),
        "confusion": _confusion(evaluation),
        "per_class": evaluation.get("per_class") or {},
        "slices": (slices := _slices(evaluation)),
        "no_new_drivers": any(code == "0" and some is None for code, some, _ in slices),
        "importances": version["importances"],
        "most": _largest(version["importances"]),
        "parameters": _parameters(version["hyper_parameters"] or {}),
        "tuning": _tuning(engine, version["hyper_parameters_from"]),
        "decision": report.get("promotion") or {},
        "changes": list_promotions(engine, _CHANGES, to_version=number),
        "trial": newest_trial(engine, number),
        "earlier": rollback_target(engine) if serves else None,
        "others": others,
    }


def _score_rows(evaluation: Mapping[str, Any]) -> list[ScoreRow]:
    if not evaluation:
        return []
    rows = [ScoreRow("model", "model", {**evaluation, "weighted_f1": evaluation["test_f1_score"]})]
    rows += [ScoreRow(name, "part", part) for name, part in (evaluation.get("parts") or {}).items()]
    differences = evaluation.get("baseline_differences") or {}
    for name, scores in evaluation.get("baselines", {}).items():
        found = differences.get(name) or {}
        rows.append(ScoreRow(name, "baseline", scores, found.get("log_loss_difference"), found.get("interval")))
    return rows


def _bins(evaluation: Mapping[str, Any]) -> list[Bin]:
    bins = (evaluation.get("calibration") or {}).get("bins") or []
    return [Bin(one["mean_confidence"], one["accuracy"], one["sessions"]) for one in bins if one["sessions"]]


def _confusion(evaluation: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float, int]]]]:
    """Return for each used type, by predicted type: the sessions, their share of the used type, and a shade."""
    rows = []
    for name, counts in zip(evaluation.get("classes") or (), evaluation.get("confusion_matrix") or (), strict=False):
        total = sum(counts) or 1
        rows.append((name, [(count, count / total, round(_SHADES * count / total)) for count in counts]))
    return rows


def _slices(evaluation: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None, float | None]]:
    """Return the groups of test sessions by the past of their drivers: code, scores, log loss of the best baseline.

    A group without sessions has None for both.
    """
    scores = evaluation.get("windows") or evaluation
    return [
        (code, some, some and min(one["log_loss"] for one in some["baselines"].values()))
        for group in ("by_earlier_sessions", "by_types_used")
        for code, some in (scores.get(group) or {}).items()
    ]


def _largest(importances: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the largest gain and the largest contribution of a group, and of a column: the ends of the bars."""
    if not importances:
        return {}
    return {
        f"{what}_{measure}": max((one[measure] for one in importances[what].values()), default=0.0) or 1.0
        for what in ("groups", "columns")
        for measure in ("gain", "contribution")
    }


def _parameters(stored: Mapping[str, Any]) -> list[Parameter]:
    whole = {**OF_OLDER_VERSIONS, **stored}
    rows = []
    for name in (*_DEFAULTS, *(one for one in whole if one not in _DEFAULTS)):
        if name in whole:
            value = list(whole[name]) if name == "left_out" else whole[name]
            has_default = name in _DEFAULTS
            rows.append(Parameter(name, value, _DEFAULTS.get(name), value == _DEFAULTS[name] if has_default else None))
    return rows


def _tuning(engine: Engine, source: str | None) -> dict[str, Any] | None:
    """Return the search that hyper-parameters come from, with the number of sets that it tried; None without one."""
    named = re.match(r"tuning (\d{1,18})\b", source or "")
    if named is None:
        return None
    try:
        tuning = read_tuning(engine, int(named[1]))
    except NotFound:
        return None
    evidence = tuning["evidence"] or {}
    shown = {name: evidence.get(name) for name in ("log_loss", "default_log_loss", "folds", "sessions", "seed")}
    return {**tuning, **shown, "tried": len(evidence.get("trials") or ())}
