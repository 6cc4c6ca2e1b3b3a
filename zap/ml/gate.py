"""The gate: decide whether a new version serves, from its verdict and its comparison with the version in production."""

from collections.abc import Mapping
from typing import Any

from zap.ml.comparison import FEWEST_ROWS
from zap.ml.decision import Decision, Serving
from zap.ml.verdict import Verdict, too_few_drivers
from zap.sentences import phrase, say

WORSE_THAN_BASELINE = say(
    "a baseline predicts better; to let this version serve anyway, train with promote: always, or promote it by hand"
)
_POLICIES = {
    "always": phrase("the training was started with promote: always"),
    "never": phrase("the training was started with promote: never"),
}
# Databases hold these reasons of earlier trainings, and pages translate them.
EARLIER_REASONS = (phrase("promote is always"), phrase("promote is never"))


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
        return Decision(promoted=promote == "always", reason=_POLICIES[promote])
    if serving is None:
        promoted, reason = verdict != "worse", say("no version served before it")
        return Decision(promoted, reason if promoted else WORSE_THAN_BASELINE, depends=True)
    number, damage, comparison = serving
    if damage is not None:
        promoted = verdict != "worse"
        if promoted:
            reason = say(
                "this version can answer, and version {number} cannot be loaded here: {damage}",
                number=number,
                damage=damage,
            )
        else:
            reason = say(
                "version {number} cannot be loaded here ({damage}), but {worse}",
                number=number,
                damage=damage,
                worse=WORSE_THAN_BASELINE,
            )
        return Decision(promoted, reason, depends=True, serving=number)
    if promote == "trial":
        if verdict == "worse":
            return Decision(promoted=False, reason=WORSE_THAN_BASELINE, serving=number)
        reason = say("a trial beside version {number} follows", number=number)
        return Decision(promoted=False, reason=reason, serving=number, tries=True)
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
        return False, say("it is not known which sessions version {number} was trained on", number=number), None
    if (n := comparison["sessions"]) < FEWEST_ROWS:
        few = say(
            "only {n} test sessions are new to both versions; at least {fewest} are needed", n=n, fewest=FEWEST_ROWS
        )
        return False, few, None
    said = say(
        "on {n:,} sessions new to both versions, the new version has the log loss {new:.3f}, and version {number} has"
        " {old:.3f}",
        n=n,
        new=comparison["candidate_log_loss"],
        number=number,
        old=comparison["production_log_loss"],
    )
    if interval := comparison["interval"]:
        said = say(
            "{said} (95 % of the difference: {low:+.4f} to {high:+.4f})", said=said, low=interval[0], high=interval[1]
        )
    lacks = _lacks(said, comparison)
    return lacks is None, lacks or said, {"with_version": number, **comparison}


def _lacks(said: str, comparison: Mapping[str, Any]) -> str | None:
    """Return why the new version does not serve, after the figures in words; None if it serves."""
    interval, both = comparison["interval"], comparison["types_of_both"]
    if interval is None:
        return say("{said}; these sessions have {few}", said=said, few=too_few_drivers(comparison["effective_drivers"]))
    if interval[1] >= 0:
        equal = phrase("{said}; both versions give equal probabilities")
        not_lower = phrase("{said}; the new log loss is not shown to be lower")
        return say(equal if interval[0] == interval[1] == 0 else not_lower, said=said)
    if both is None:
        return None
    if not both["sessions"]:
        return say(
            "{said}, but both versions have fewer than two types in common on these sessions, so one type would decide"
            " alone",
            said=said,
        )
    # A difference that is NaN counts as no gain.
    if not both["difference"] <= 0:
        return say(
            "{said}, but on the {n:,} sessions of types that both versions know the new log loss is higher by"
            " {difference:.4f}",
            said=said,
            n=both["sessions"],
            difference=both["difference"],
        )
    return None
