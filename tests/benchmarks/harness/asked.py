"""What zap's figures must reach, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.rounds import Ratio
from harness.scenarios import Found


@dataclass(frozen=True)
class Asked:
    """A figure that must be reached; with `lower` one that must not be exceeded."""

    figure: str
    scenario: str
    ratio: str
    least: float
    aim: float
    lower: bool = False

    def reached(self, found: Ratio) -> str:
        """By the median; the spread stands beside it."""

        def holds(bound: float) -> bool:
            return found.median <= bound if self.lower else found.median >= bound

        return "the aim" if holds(self.aim) else "yes" if holds(self.least) else "no"


ALL = (
    Asked(
        "/predict, 64 connections, FULL, over the ceiling", "many", "zap over ceiling: requests_per_second", 0.45, 0.7
    ),
    Asked("the same with NORMAL", "many", "zap-normal over ceiling: requests_per_second", 0.55, 0.8),
    Asked("over MLflow", "many", "zap over mlflow: requests_per_second", 15, 25),
    Asked("over FastAPI, DataFrame, two commits", "many", "zap over fastapi: requests_per_second", 25, 40),
    Asked("p99 at 64 connections over the ceiling's", "many", "zap over ceiling: p99_ms", 4, 2, lower=True),
    Asked("p50 at 1 connection over MLflow's", "one", "zap over mlflow: p50_ms", 0.2, 0.1, lower=True),
    Asked(
        "with user_id of a remembered driver over anonymous",
        "driver",
        "zap-driver over zap: requests_per_second",
        0.7,
        0.9,
    ),
    Asked("/predict/batch, rows/s over LightGBM's own", "batch", "batch over booster: rows/s", 0.3, 0.6),
    Asked("p99 while a training runs over idle", "training", "training over idle: p99_ms", 2.5, 1.5, lower=True),
)


def judged(scenarios: Mapping[str, Found]) -> list[dict[str, Any]]:
    """A row for each figure that was asked for: what was measured, or why nothing was."""
    rows = []
    for asked in ALL:
        found = scenarios.get(asked.scenario)
        measured = found.ratios.get(asked.ratio) if found else None
        why_not = (found.why_not if found else None) or "a server that it needs did not run or was refused"
        rows.append(
            {
                "figure": asked.figure,
                "at": "at most" if asked.lower else "at least",
                "bound": asked.least,
                "aim": asked.aim,
                "measured": measured.as_dict() if measured else None,
                "reached": asked.reached(measured) if measured else f"not measured: {why_not if found else 'not run'}",
            }
        )
    return rows
