"""The gate: decide whether a new version serves, from its verdict and its comparison with the version in production."""

from collections.abc import Mapping
from typing import Any

from zap.ml.comparison import FEWEST_ROWS
from zap.ml.decision import Decision, Serving
from zap.ml.verdict import Verdict, too_few_drivers

WORSE_THAN_BASELINE = (
    "a baseline predicts better; to let this version serve anyway, train with promote: always, or promote it by hand"
)


def decide(promote: str, verdict: Verdict, serving: Serving | None) -> Decision:
    """Decide whether a new version serves.

    With `if_better` and `trial`, a version that is worse than a baseline never serves. Any other version serves if no
    version in production can answer. If the version in production can answer, `trial` begins a trial. With `if_better`,
    the new version must pass two tests:

    1. The 95 % interval over drivers of the paired difference in log loss lies below zero.
    2. On sessions whose types both versions know, with the probabilities restricted to these types, the log loss of the
       new version is not higher. So a type that only one version knows does not decide alone.

    Args:
        promote: `always`, `never`, `if_better` or `trial`.
        verdict: the verdict on the new version against the baselines.
        serving: the version in production; None if there is none. Only `if_better` and `trial` read it.
    """
    if promote not in {"if_better", "trial"}:
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
    if promote == "trial":
        if verdict == "worse":
            return Decision(promoted=False, reason=WORSE_THAN_BASELINE, serving=number)
        return Decision(promoted=False, reason=f"a trial beside version {number} follows", serving=number, tries=True)
    promoted, reason, figures = _beside(number, verdict, comparison)
    return Decision(promoted, reason, depends=True, serving=number, comparison=figures)


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
        return f"; these sessions have {too_few_drivers(comparison['effective_drivers'])}"
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
