"""The verdict: whether a model is certainly better than every baseline, certainly worse than one, or neither."""

from collections.abc import Mapping
from typing import Any, Literal

from zap.ml.baselines import in_words
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS
from zap.sentences import say

Verdict = Literal["better", "not_shown", "worse"]


def verdict_of(differences: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Return the verdict that follows from the differences in log loss to all baselines.

    `worse` uses the intervals that hold for all baselines at once, because the worst of several comparisons looks bad
    by chance. `better` needs no such correction, because every comparison must show it.

    Args:
        differences: for each baseline `interval` and `interval_of_all`; both are None with too few effective drivers.
    """
    if any(one["interval_of_all"] is not None and one["interval_of_all"][0] > 0 for one in differences.values()):
        return "worse"
    alone = [one["interval"] for one in differences.values()]
    return "better" if alone and all(ends is not None and ends[1] < 0 for ends in alone) else "not_shown"


def too_few_drivers(effective_drivers: float) -> str:
    """Return in words that there are too few effective drivers for an interval, and what effective drivers are."""
    return say(
        "{n:.1f} effective drivers (fewer than the drivers if a few drivers have most of the sessions); at least"
        " {fewest} effective drivers are needed",
        n=effective_drivers,
        fewest=FEWEST_EFFECTIVE_DRIVERS,
    )


def sample_in_words(model_version: int) -> str:
    """Return a warning about a version that was trained on synthetic sessions, and what to do."""
    return say(
        "Version {number} was trained on synthetic sessions (zap sample-history), so its predictions and scores say"
        " nothing about real drivers. Add real sessions (zap import-history), then train (zap train).",
        number=model_version,
    )


def verdict_in_words(judged: Mapping[str, Any]) -> str:
    """Return a sentence on how the model compares with the baselines, and on which sessions."""
    if not judged["sessions"]:
        return say("It is not shown whether the model beats the baselines: the search has seen all test sessions.")
    on = {"n": judged["sessions"], "sessions": judged["sessions_of"]}
    if judged["verdict"] == "better":
        return say(
            "The model beats every baseline, on {n:,} sessions ({sessions}): the whole interval of each difference in"
            " log loss lies below zero.",
            **on,
        )
    if judged["verdict"] == "worse":
        differences = judged["baseline_differences"]
        name = max(differences, key=lambda name: differences[name]["interval_of_all"][0])
        low, high = differences[name]["interval_of_all"]
        baseline = in_words(name, past_known=judged["past_known"])
        return say(
            "The model is worse than a baseline ({baseline}), on {n:,} sessions ({sessions}): its log loss is higher by"
            " {low:.4f} to {high:.4f}. The baseline would predict better.",
            baseline=baseline,
            low=low,
            high=high,
            **on,
        )
    if judged["log_loss_difference_interval"] is None:
        return say(
            "It is not known whether the model beats the baselines: the {n:,} sessions ({sessions}) have {few}.",
            few=too_few_drivers(judged["effective_drivers"]),
            **on,
        )
    low, high = judged["log_loss_difference_interval"]
    return say(
        "It is not shown that the model beats every baseline, on {n:,} sessions ({sessions}): its log loss minus that"
        " of the best baseline lies between {low:+.4f} and {high:+.4f} (95 % interval).",
        low=low,
        high=high,
        **on,
    )
