"""The gate: compare a new version with the version in production, and decide whether the new version serves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS, effective_drivers
from zap.ml.model import ChargerTypeModel
from zap.ml.scores import Scores, compare
from zap.ml.training import Split, past_features, witness_codes
from zap.ml.unseen import align
from zap.ml.verdict import Verdict

# With fewer sessions the difference between two models is mostly chance.
FEWEST_ROWS = 200
WORSE_THAN_BASELINE = (
    "a baseline predicts better; to let this version serve anyway, train with promote: always, or promote it by hand"
)


class Serving(NamedTuple):
    """The facts about the version in production that a decision needs.

    Attributes:
        number: the number of the version.
        damage: why the version cannot be loaded; None if it can be loaded.
        comparison: the result of `compare_versions`; None if it is not known which sessions the version has seen.
    """

    number: int
    damage: str | None = None
    comparison: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a new version serves, and why.

    Attributes:
        promoted: whether the new version serves.
        reason: the reason in words.
        depends: whether the decision depends on the version that was in production when it was made.
        serving: the number of the version in production at that time; None if there was none.
        comparison: the figures behind the decision, if there are any.
    """

    promoted: bool
    reason: str
    depends: bool = False
    serving: int | None = None
    comparison: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"promoted": self.promoted, "reason": self.reason, "comparison": self.comparison}

    def confirmed(self, serving: int | None) -> "Decision":
        """Return this decision, or a refusal if it depends on another version than the one in production now.

        Args:
            serving: the number of the version in production now; None if there is none.
        """
        if not (self.promoted and self.depends) or self.serving == serving:
            return self
        reason = f"version {serving} was put into production during the training; train again to compare with it"
        return Decision(promoted=False, reason=reason, comparison=self.comparison)


def decide(promote: str, verdict: Verdict, serving: Serving | None) -> Decision:
    """Decide whether a new version serves.

    With `if_better`, a version that is worse than a baseline never serves. Any other version serves if no version in
    production can answer. If the version in production can answer, the new version must pass two tests:

    1. The 95 % interval over drivers of the paired difference in log loss lies below zero.
    2. On sessions whose types both versions know, with the probabilities restricted to these types, the log loss of the
       new version is not higher. So a type that only one version knows does not decide alone.

    Args:
        promote: `always`, `never` or `if_better`.
        verdict: the verdict on the new version against the baselines.
        serving: the version in production; None if there is none. Only `if_better` reads it.
    """
    if promote != "if_better":
        return Decision(promoted=promote == "always", reason=f"promote is {promote}")
    if serving is None:
        promoted, reason = verdict != "worse", "no version served before it"
        return Decision(promoted, reason if promoted else WORSE_THAN_BASELINE, depends=True)
    number, damage, comparison = serving
    if damage is not None:
        promoted, cannot = verdict != "worse", f"version {number} cannot be loaded here"
        reason = f"this version can answer, and {cannot}: {damage}"
        worse = f"{cannot} ({damage}), but {WORSE_THAN_BASELINE}"
        return Decision(promoted, reason if promoted else worse, depends=True, serving=number)
    promoted, reason, figures = _beside(number, verdict, comparison)
    return Decision(promoted, reason, depends=True, serving=number, comparison=figures)


def compare_versions(
    split: Split, candidate: ChargerTypeModel, production: ChargerTypeModel, seen_until: datetime
) -> dict[str, Any]:
    """Return the log losses of two models on test sessions that are new to both, and the interval of the difference.

    If fewer than FEWEST_ROWS sessions are new to both, return only the number of these sessions.

    Args:
        split: the history that the candidate was trained on; the candidate has not seen the test part.
        candidate: the new model.
        production: the model in production.
        seen_until: the start of the newest session that either model, or the search before its training, has seen.
    """
    newer = (split.test["charging_start_time"] > seen_until).to_numpy()
    rows = split.test[newer]
    if len(rows) < FEWEST_ROWS:
        return {"sessions": len(rows)}
    classes, types = candidate.classes_.tolist(), production.classes_.tolist()
    every = list(dict.fromkeys([*classes, *types, *sorted(rows["charger_type"].unique())]))
    labels = np.array([every.index(name) for name in rows["charger_type"]], dtype=np.int64)
    new = candidate.predict_proba(rows, split.test_past[newer])
    old = production.predict_proba(rows, _past_for(production, split, newer, rows))
    new = align(new, classes, every, candidate.population_.sessions)
    old = align(old, types, every, production.population_.sessions)
    scores, served = Scores(labels, new), Scores(labels, old)
    drivers = witness_codes(split.frame)[split.in_frame(split.tested)][newer]
    return {
        "sessions": len(rows),
        "drivers": len(np.unique(drivers)),
        "effective_drivers": round(effective_drivers(drivers), 1),
        **_log_losses(scores, served),
        "interval": compare(scores, {"production": served}, drivers)["production"].interval,
        "types_of_both": _on_types_of_both(labels, new, old, np.isin(every, classes) & np.isin(every, types)),
    }


def _beside(
    number: int, verdict: Verdict, comparison: Mapping[str, Any] | None
) -> tuple[bool, str, dict[str, Any] | None]:
    """Return whether the new version replaces a version that can answer, the reason, and the figures of the comparison.

    Args:
        number: the number of the version in production.
        verdict: as in `decide`.
        comparison: as in `Serving`.
    """
    if verdict == "worse":
        return False, WORSE_THAN_BASELINE, None
    if comparison is None:
        return False, f"it is not known which sessions version {number} was trained on", None
    if (n := comparison["sessions"]) < FEWEST_ROWS:
        return False, f"only {n} test sessions are new to both versions; at least {FEWEST_ROWS} are needed", None
    lacks = _lacks(comparison)
    said = (
        f"on {n:,} sessions new to both versions, the new version has the log loss"
        f" {comparison['candidate_log_loss']:.3f}, and version {number} has {comparison['production_log_loss']:.3f}"
    )
    if interval := comparison["interval"]:
        said += f" (95 % of the difference: {interval[0]:+.4f} to {interval[1]:+.4f})"
    return not lacks, said + lacks, {"with_version": number, **comparison}


def _lacks(comparison: Mapping[str, Any]) -> str:
    """Return the reason in these figures why the new version does not serve; an empty text if it serves."""
    interval, both = comparison["interval"], comparison["types_of_both"]
    if interval is None:
        return (
            f"; these sessions count as {comparison['effective_drivers']:.1f} equal drivers, and at least"
            f" {FEWEST_EFFECTIVE_DRIVERS} are needed"
        )
    if interval[1] >= 0:
        return (
            "; both versions give equal probabilities"
            if interval[0] == interval[1] == 0
            else "; the new log loss is not shown to be lower"
        )
    if both is None:
        return ""
    if not both["sessions"]:
        return (
            ", but both versions have fewer than two types in common on these sessions, so one type would decide alone"
        )
    # A difference that is NaN counts as no gain.
    if not both["difference"] <= 0:
        return (
            f", but on the {both['sessions']:,} sessions of types that both versions know the new log loss is higher by"
            f" {both['difference']:.4f}"
        )
    return ""


def _log_losses(candidate: Scores, production: Scores) -> dict[str, float]:
    new, old = candidate.log_loss, production.log_loss
    return {"candidate_log_loss": new, "production_log_loss": old, "difference": new - old}


def _on_types_of_both(labels: np.ndarray, new: np.ndarray, old: np.ndarray, both: np.ndarray) -> dict[str, Any] | None:
    """Return the log losses of both models on the sessions whose types both models know, without the other types.

    Args:
        labels: the n codes of the used types.
        new: the probabilities of the candidate, of shape (n, k).
        old: the probabilities of the model in production, of shape (n, k).
        both: for each of the k types, whether both models know it.

    Returns:
        None if both models know all types. If they have fewer than two types in common, there are no log losses.
    """
    inside = both[labels]
    if both.all():
        return None
    if both.sum() < 2 or not inside.any():
        return {"sessions": 0}
    left = [np.where(both, np.maximum(said[inside], np.finfo(np.float64).tiny), 0.0) for said in (new, old)]
    scores = [Scores(labels[inside], said / said.sum(axis=1, keepdims=True)) for said in left]
    return {"sessions": int(inside.sum()), **_log_losses(*scores)}


def _past_for(model: ChargerTypeModel, split: Split, newer: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Return the history columns of `rows`, the `newer` test sessions, for a model with other types and another mix."""
    known = split.frame["user_id"].isin(rows["user_id"].dropna()).to_numpy(copy=True)
    known[split.in_frame(split.tested)] |= newer
    some = split.frame[known]
    return past_features(some, model.classes_.tolist(), model.population_)[some.index.isin(rows.index)]
