"""The reasons of an explanation in words: at most four, each with its value and the usual value."""

from collections.abc import Mapping
from typing import NamedTuple

from zap.ml.explained_groups import USUAL_MIX, explained_group
from zap.ml.explanation import LOGISTIC, TREES, Explanation
from zap.ml.reason_words import Row, Words, percent
from zap.sentences import say

MOST_REASONS = 4
# A group that changes the ratio of the two probabilities by less than this factor (5 %) is no reason.
_LEAST = 0.05


class Reason(NamedTuple):
    """A reason of a prediction.

    Attributes:
        group: one of EXPLAINED_GROUPS.
        favours: the charger type that the group makes more probable: the predicted type or the runner-up.
        contribution: what the group adds to the log-ratio; negative if the group favours the runner-up.
        text: the reason as a sentence without a full stop.
        value: the value of the column that adds the most within the group.
        usual: the usual value of this column; None if the version does not hold it.
    """

    group: str
    favours: str
    contribution: float
    text: str
    value: str
    usual: str | None


def reasons(explanation: Explanation, row: Row) -> list[Reason]:
    """Return the largest groups of an explanation in words, the largest first."""
    largest = sorted(explanation.groups.items(), key=lambda one: -abs(one[1]))[:MOST_REASONS]
    return [_reason(name, added, explanation, row) for name, added in largest if abs(added) >= _LEAST]


def _reason(group: str, added: float, explanation: Explanation, row: Row) -> Reason:
    compared = explanation.predicted, explanation.runner_up
    favoured, other = compared if added > 0 else compared[::-1]
    if group == USUAL_MIX:
        words = _usual_mix(favoured, other, row.usual.mix)
    else:
        words = row.words(_largest(group, added, explanation), favoured, other)
    if words.usual:
        text = say("For {type:s}: {said} (usual: {usual})", type=favoured, said=words.said, usual=words.usual)
    else:
        text = say("For {type:s}: {said}", type=favoured, said=words.said)
    return Reason(group, favoured, added, text, words.value, words.usual)


def _largest(group: str, added: float, explanation: Explanation) -> str:
    """Return the column that adds the most to a group, in the direction of the group.

    A column of a third charger type is taken only if no other column has this direction.
    """
    compared = {"", f"{explanation.predicted}]", f"{explanation.runner_up}]"}
    adds = {name: one * added for name, one in explanation.columns.items() if explained_group(name) == group}
    near = {name: one for name, one in adds.items() if one > 0 and name.partition("[")[2] in compared}
    return max(near or adds, key=adds.__getitem__)


def _usual_mix(favoured: str, other: str, mix: Mapping[str, float]) -> Words:
    shares = percent(mix[favoured]), percent(mix[other])
    said = say(
        "of all sessions, {share} used {type:s} and {other_share} used {other:s}",
        share=shares[0],
        type=favoured,
        other_share=shares[1],
        other=other,
    )
    return Words(said, f"{shares[0]} and {shares[1]}", None)


def in_words(explanation: Explanation) -> str:
    """Return in sentences what was answered, and how much each part of the model weighs."""
    weights = {part.name: percent(part.weight) for part in explanation.parts}
    if explanation.new_driver:
        if explanation.parts[0].weight == 0:
            return say(
                "The driver has no earlier sessions, so the usual mix of charger types was answered. The trees weigh"
                " 0 %."
            )
        return say(
            "The driver has no earlier sessions, so the usual mix of charger types was answered with the weight {mix},"
            " and the trees weigh {trees}. All groups but the usual mix come from the trees alone.",
            mix=weights.get(USUAL_MIX, percent(0)),
            trees=weights[TREES],
        )
    if LOGISTIC not in weights:
        return say("The trees alone answered.")
    return say(
        "The trees weigh {trees}, and the logistic regression on the driver's shares weighs {logistic}.",
        trees=weights[TREES],
        logistic=weights[LOGISTIC],
    )
