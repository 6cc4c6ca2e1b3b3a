"""The reason why the scores of a version, computed again, differ from the scores of its training."""

from collections.abc import Mapping
from typing import Any

from zap.ml.fingerprint import changed_months, rows_fingerprint
from zap.ml.training import Split


def reason_of_change(split: Split, stored: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Return why the scores differ from the scores of the training; None if they are equal.

    Args:
        split: the version's split, as `tested_again` returns it.
        stored: the version, as `read_version` returns it.
        found: the scores, computed again.
    """
    causes = []
    now = rows_fingerprint(split.frame.iloc[: split.trained_end], stored["contract"]["fields"])
    if now.sha256 != stored["rows_sha256"]:
        months = changed_months(stored["rows_by_month"], now)
        told = [f"{month} ({_difference(**one)})" for month, one in months.items()]
        causes.append(f"the training sessions, or sessions before them, have changed in {', '.join(told)}")
    if split.n_test < stored["test_samples"]:
        causes.append(f"only {split.n_test} of the {stored['test_samples']} test sessions still exist")
    if causes:
        return "; and ".join(causes)
    then = stored["evaluation"]
    # Scores that follow from windows, such as the verdict, are not compared, because windows are not computed again.
    same = [name for name in found if name in then and name not in (then["windows"] or {})]
    if others := [name for name in same if found[name] != then[name]]:
        return f"the test sessions have changed, or the code that computes scores has ({', '.join(others)} differ)"
    return None


def _difference(then: int, now: int) -> str:
    """Return in words how the sessions of a month have changed."""
    return f"values changed in its {now} sessions" if then == now else f"{then} sessions then, {now} now"
