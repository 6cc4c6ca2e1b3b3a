"""What a training has found, from which its report and its message are made."""

from dataclasses import dataclass
from typing import Any

from zap.db.versions.tunings import HyperParameters
from zap.ml.history import History
from zap.ml.model import ChargerTypeModel
from zap.ml.reporting import Reporting
from zap.ml.training import Split


@dataclass(frozen=True)
class Trained:
    """The results of a training, from which its report is made.

    Attributes:
        reporting: how late sessions were stored, and how many have no end.
        asked_before: ZAP_ASKED_BEFORE_MINUTES.
    """

    history: History
    split: Split
    model: ChargerTypeModel
    chosen: HyperParameters
    scores: dict[str, Any]
    reporting: Reporting
    asked_before: int
    model_version: int
    run_id: int

    @property
    def seen_by_search(self) -> int:
        """Return how many of the test sessions the search for hyper-parameters has seen."""
        seen_until = self.chosen.seen_until
        return 0 if seen_until is None else int((self.split.test["charging_start_time"] <= seen_until).sum())
