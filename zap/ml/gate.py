"""The gate: whether a candidate is to serve instead of the version in production."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from zap.ml.evaluation import FEWEST_DRIVERS, ScoredRows, difference_interval, log_losses
from zap.ml.model import ChargerTypeModel
from zap.ml.training import Split, driver_codes, past_features

# On fewer sessions a difference says nothing.
FEWEST_ROWS = 200


@dataclass(frozen=True)
class Decision:
    """Whether a new version serves, and why.

    Attributes:
        promoted: whether it does.
        reason: in words.
        depends: whether it follows from what served when it was made: `serving`, None where nothing did.
        comparison: the figures, if there are any.
    """

    promoted: bool
    reason: str
    depends: bool = False
    serving: int | None = None
    comparison: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"promoted": self.promoted, "reason": self.reason, "comparison": self.comparison}


def decide_if_better(
    split: Split, candidate: ChargerTypeModel, production: ChargerTypeModel, number: int, seen_until: datetime | None
) -> Decision:
    """Compare the log loss of both on sessions that neither learned from.

    The candidate is better when the whole 95 % interval of the paired difference lies below zero, drivers resampled.

    Args:
        split: the history that the candidate was trained on; its test part is what it has not seen.
        candidate: the new model.
        production: the model that serves.
        number: its version.
        seen_until: the start of the newest session that either has learned from, the searches for their
            hyper-parameters too, as far as the test part is concerned; None where it is not known.
    """

    def stays(reason: str, comparison: dict[str, Any] | None = None) -> Decision:
        return Decision(promoted=False, reason=reason, depends=True, serving=number, comparison=comparison)

    if seen_until is None:
        return stays(f"it is not known which sessions version {number} was trained on")
    rows = _rows_of_both(split, candidate, production, seen_until)
    n = len(rows.labels)
    if n < FEWEST_ROWS:
        return stays(
            f"{n} sessions of the test part are newer than what either version has learned from or was tuned on,"
            f" and at least {FEWEST_ROWS} are needed"
        )
    losses = {"candidate": rows.probabilities, "production": rows.guesses["production"]}
    means = {name: float(log_losses(rows, probabilities).mean()) for name, probabilities in losses.items()}
    interval = difference_interval(rows, rows.probabilities, rows.guesses["production"])
    comparison = {
        "with_version": number,
        "sessions": n,
        "drivers": len(np.unique(rows.drivers)),
        "candidate_log_loss": means["candidate"],
        "production_log_loss": means["production"],
        "difference": means["candidate"] - means["production"],
        "interval": interval,
    }
    said = (
        f"on {n:,} sessions that neither has learned from its log loss is {means['candidate']:.3f}"
        f" and that of version {number} {means['production']:.3f}"
    )
    if interval is None:
        return stays(f"{said}, of fewer than {FEWEST_DRIVERS} drivers", comparison)
    said = f"{said} (95 % of the difference: {interval[0]:+.4f} to {interval[1]:+.4f})"
    if interval[1] >= 0:
        return stays(f"{said}, which is not certainly better", comparison)
    return Decision(promoted=True, reason=said, depends=True, serving=number, comparison=comparison)


def _rows_of_both(
    split: Split, candidate: ChargerTypeModel, production: ChargerTypeModel, seen_until: datetime
) -> ScoredRows:
    """The test sessions that are newer than the training of both, with what both say of them."""
    test = split.test
    newer = (test["charging_start_time"] > seen_until).to_numpy()
    rows = test[newer]
    # Production has types and a mix of its own: the pasts of these drivers are walked for it.
    types = [str(name) for name in production.classes_]
    known = split.frame["user_id"].isin(rows["user_id"].dropna()).to_numpy(copy=True)
    known[split.tested] |= newer
    some = split.frame[known]
    past = past_features(some, types, production.population_)[some.index.isin(rows.index)]
    every = [*dict.fromkeys([*map(str, candidate.classes_), *types, *sorted(rows["charger_type"].unique())])]
    return ScoredRows(
        classes=every,
        labels=np.array([every.index(name) for name in rows["charger_type"]], dtype=np.int64),
        drivers=driver_codes(split.frame)[split.tested][newer],
        earlier=np.zeros(len(rows)),
        several_types=np.zeros(len(rows), dtype=bool),
        probabilities=_placed(candidate, candidate.predict_proba(rows, split.test_past[newer]), every),
        guesses={"production": _placed(production, production.predict_proba(rows, past), every)},
    )


def _placed(model: ChargerTypeModel, probabilities: np.ndarray, every: list[str]) -> np.ndarray:
    """The columns where `every` has them; zeros for types that the model does not know."""
    wide = np.zeros((len(probabilities), len(every)))
    wide[:, [every.index(str(name)) for name in model.classes_]] = probabilities
    return wide
