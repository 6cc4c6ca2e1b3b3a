"""Two model versions side by side, from what their trainings have stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from zap.db.versions.model_registry import read_version
from zap.sentences import say

# The stored facts that are shown of each version.
_FACTS = ("status", "created_at", "trained_from", "trained_until", "trained_samples", "code_version", "note")
_SCORES = ("test_f1_score", "macro_f1", "accuracy", "log_loss")


def compared(engine: Engine, one: int, other: int) -> dict[str, Any]:
    """Return what is stored about two versions, side by side.

    Returns:
        `versions`, the two numbers. `comparable`, whether the scores were measured on the same sessions (None: not
        known), and `why_not` in words. Then for each subject a dictionary by name, with a list of two values, None
        where a version has no such value: `facts`, `tested`, `scores`, `baselines` (log losses), `hyper_parameters`,
        `features` (what a request must have), `groups` and `columns` (mean absolute contributions). `unreadable`
        has for each of them the names of what cannot be read.

    Raises:
        NotFound: there is no such version.
    """
    both = [read_version(engine, number) for number in (one, other)]
    comparable, why_not = _comparable(both)
    evaluations = [version["evaluation"] or {} for version in both]
    return {
        "versions": [one, other],
        "comparable": comparable,
        "why_not": why_not,
        "facts": _side_by_side([{name: version[name] for name in _FACTS} for version in both]),
        "tested": _side_by_side([version["tested"] or {"sessions": version["test_samples"]} for version in both]),
        "scores": _side_by_side([{name: scores.get(name) for name in _SCORES} for scores in evaluations]),
        "baselines": _side_by_side(
            [{name: found["log_loss"] for name, found in scores.get("baselines", {}).items()} for scores in evaluations]
        ),
        "hyper_parameters": _side_by_side([version["hyper_parameters"] or {} for version in both]),
        "features": _side_by_side(
            [{feature["name"]: feature["in_requests"] for feature in version["features"] or ()} for version in both]
        ),
        "unreadable": [version["unreadable"] for version in both],
        **{what: _side_by_side([_contributions(version, what) for version in both]) for what in ("groups", "columns")},
    }


def _comparable(both: Sequence[Mapping[str, Any]]) -> tuple[bool | None, str | None]:
    """Return whether the scores of two versions were measured on the same sessions, and in words why not."""
    ones = [(version["tested"] or {}).get("sha256") for version in both]
    if None not in ones:
        if ones[0] == ones[1]:
            return True, None
        said = " and ".join(
            say(
                "version {model_version} on {sessions:,} sessions from {start} to {until}",
                model_version=version["model_version"],
                sessions=version["tested"]["sessions"],
                start=version["tested"]["from"],
                until=version["tested"]["until"],
            )
            for version in both
        )
        return False, say(
            "the versions were tested on different sessions, so their scores are not comparable: {said}", said=said
        )
    numbers = [version["test_samples"] for version in both]
    if numbers[0] != numbers[1] or both[0]["trained_until"] != both[1]["trained_until"]:
        return False, say("the versions were tested on different sessions, so their scores are not comparable")
    return (
        None,
        say("it is not known whether the versions were tested on the same sessions: an older zap trained one of them"),
    )


def _contributions(version: Mapping[str, Any], what: str) -> dict[str, float]:
    return {name: one["contribution"] for name, one in (version["importances"] or {}).get(what, {}).items()}


def _side_by_side(both: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [one.get(name) for one in both] for name in dict.fromkeys([*both[0], *both[1]])}
