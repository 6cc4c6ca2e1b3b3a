"""The candidates of a search: the defaults, the incumbent, and candidates that are drawn from a space of values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sklearn.model_selection import ParameterGrid, ParameterSampler

from zap.ml.candidate import Candidate
from zap.ml.model import ChargerTypeModel

DEFAULT_ROUNDS: int = ChargerTypeModel().n_estimators
# A candidate of every search: strong regularisation, which was better than the defaults on several real histories.
_REGULARISED = {
    "num_leaves": 7,
    "learning_rate": 0.03,
    "min_child_samples": 50,
    "reg_lambda": 10.0,
}
# The number of rounds is not drawn: the log loss after each round shows the best number.
_SPACE = {
    "num_leaves": [4, 7, 15, 31, 63],
    "learning_rate": [0.05, 0.08],
    "colsample_bytree": [0.4, 0.6, 0.8, 1.0],
    "min_child_samples": [10, 20, 50, 100],
    "reg_alpha": [0.0, 1.0, 5.0],
    "reg_lambda": [0.0, 1.0, 5.0, 10.0, 20.0],
}


def search_candidates(
    most: int, pinned: Mapping[str, Any], incumbent: Mapping[str, Any] | None, seed: int
) -> tuple[list[Candidate], int]:
    """Return up to `most` different candidates, and the number of candidates that skip the race (defaults, incumbent).

    If the number of rounds is not pinned, the log losses decide it. The defaults and the incumbent are boosted for at
    least their own number of rounds, so that they are never judged by fewer rounds.
    """
    different: dict[tuple[Any, ...], Candidate] = {}
    for values in [{}, incumbent] if incumbent else [{}]:
        candidate = Candidate(_pinned(values, pinned), values.get("n_estimators", DEFAULT_ROUNDS))
        known = different.get(candidate.key, candidate)
        different[candidate.key] = replace(known, at_least=max(known.at_least, candidate.at_least))
    carried = len(different)
    space = {name: values for name, values in _SPACE.items() if name not in pinned}
    # Three draws more, because a drawn candidate may equal the defaults, the incumbent or the regularised candidate.
    draws = min(len(ParameterGrid(space)), max(most, 0) + 3)
    for values in [_REGULARISED, *ParameterSampler(space, n_iter=draws, random_state=seed)]:
        candidate = Candidate(_pinned(values, pinned))
        different.setdefault(candidate.key, candidate)
    return list(different.values())[: max(most, carried)], carried


def _pinned(values: Mapping[str, Any], pinned: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in values.items() if name != "n_estimators"}, **pinned}
