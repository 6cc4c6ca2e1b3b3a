"""The verdict: whether a model is certainly better than every baseline, certainly worse than one, or neither."""

from collections.abc import Mapping
from typing import Any, Literal

from zap.ml.baselines import in_words
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS

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
    return (
        f"{effective_drivers:.1f} effective drivers (fewer than the drivers if a few drivers have most of the"
        f" sessions); at least {FEWEST_EFFECTIVE_DRIVERS} effective drivers are needed"
    )


def sample_in_words(model_version: int) -> str:
    """Return a warning about a version that was trained on synthetic sessions, and what to do."""
    return (
        f"Version {model_version} was trained on synthetic sessions (zap sample-history), so its predictions and scores"
        " say nothing about real drivers. Add real sessions (zap import-history), then train (zap train)."
    )


def verdict_in_words(judged: Mapping[str, Any]) -> str:
    """Return a sentence on how the model compares with the baselines, and on which sessions."""
    if not judged["sessions"]:
        return "It is not shown whether the model beats the baselines: the search has seen all test sessions."
    on = f"on {judged['sessions']:,} sessions ({judged['sessions_of']})"
    if judged["verdict"] == "better":
        return (
            f"The model beats every baseline, {on}: the whole interval of each difference in log loss lies below zero."
        )
    if judged["verdict"] == "worse":
        differences = judged["baseline_differences"]
        name = max(differences, key=lambda name: differences[name]["interval_of_all"][0])
        low, high = differences[name]["interval_of_all"]
        baseline = in_words(name, past_known=judged["past_known"])
        return (
            f"The model is worse than a baseline ({baseline}), {on}: its log loss is higher by {low:.4f} to {high:.4f}."
            " The baseline would predict better."
        )
    if judged["log_loss_difference_interval"] is None:
        return (
            f"It is not known whether the model beats the baselines: the {judged['sessions']:,} sessions"
            f" ({judged['sessions_of']}) have {too_few_drivers(judged['effective_drivers'])}."
        )
    low, high = judged["log_loss_difference_interval"]
    return (
        f"It is not shown that the model beats every baseline, {on}: its log loss minus that of the best baseline lies"
        f" between {low:+.4f} and {high:+.4f} (95 % interval)."
    )
