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

        return "the target" if holds(self.aim) else "yes" if holds(self.least) else "no"


ALL = (
    Asked(
        "requests/s with FULL, ratio to the ceiling, 64 connections",
        "many",
        "zap over ceiling: requests_per_second",
        0.45,
        0.7,
    ),
    Asked(
        "requests/s with NORMAL, ratio to the ceiling, 64 connections",
        "many",
        "zap-normal over ceiling: requests_per_second",
        0.55,
        0.8,
    ),
    Asked("requests/s, ratio to MLflow, 64 connections", "many", "zap over mlflow: requests_per_second", 15, 25),
    Asked("requests/s, ratio to FastAPI, 64 connections", "many", "zap over fastapi: requests_per_second", 25, 40),
    Asked("p99, ratio to the ceiling, 64 connections", "many", "zap over ceiling: p99_ms", 4, 2, lower=True),
    Asked("p50, ratio to MLflow, 1 connection", "one", "zap over mlflow: p50_ms", 0.2, 0.1, lower=True),
    Asked(
        "requests/s with the user_id of a remembered driver, ratio to requests without user_id",
        "driver",
        "zap-driver over zap: requests_per_second",
        0.7,
        0.9,
    ),
    Asked("rows/s of /predict/batch, ratio to LightGBM alone", "batch", "batch over booster: rows/s", 0.3, 0.6),
    Asked(
        "p99 while a training runs, ratio to no training",
        "training",
        "training over idle: p99_ms",
        2.5,
        1.5,
        lower=True,
    ),
    Asked(
        "requests/s while `zap follow` works off a backlog, ratio to no follower",
        "follower",
        "follow over alone: requests_per_second",
        0.8,
        0.95,
    ),
    Asked(
        "requests/s while the server works off a backlog, ratio to no follower",
        "follower",
        "server-follows over alone: requests_per_second",
        0.8,
        0.95,
    ),
    Asked(
        "requests/s while a trial runs, ratio to no follower",
        "follower",
        "trial over alone: requests_per_second",
        0.8,
        0.95,
    ),
    Asked(
        "requests/s with a scoped key, metrics and the follower, ratio to none of them",
        "key",
        "zap-keyed over zap: requests_per_second",
        0.9,
        0.98,
    ),
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
