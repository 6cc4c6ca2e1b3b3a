"""What the servers serve: a made-up history, zap's model of it, the peers' models; made once for a run."""

import contextlib
import csv
import gzip
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.server import NoServer

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parent / "servers"
REPOSITORY = HERE.parents[2]
PEERS = REPOSITORY / ".bench"
NUMBERS = {
    "state_of_charge_start": (5, 95, 1),
    "distance_driven_km": (1, 400, 1),
    "temperature_c": (-15, 38, 1),
    "battery_capacity_kwh": (37, 82, 0),
    "vehicle_age_years": (0, 9, 1),
}


@dataclass(frozen=True)
class Fixture:
    """A folder with a trained database.

    Attributes:
        folder: holds it, and all that is made for the run.
        drivers: some user ids of the history.
        user_types: of the history.
        vehicle_models: of the history.
    """

    folder: Path
    drivers: Sequence[str]
    user_types: Sequence[str]
    vehicle_models: Sequence[str]

    @property
    def model_file(self) -> Path:
        return self.folder / "models" / "production_model.joblib"

    def zap_environment(self, name: str, **settings: str) -> dict[str, str]:
        """ZAP_* for a server of its own copy of the database."""
        place = self.folder / name
        if not place.exists():
            place.mkdir()
            shutil.copy(self.folder / "zap.sqlite", place / "zap.sqlite")
            shutil.copytree(self.folder / "models", place / "models")
        return _zap_environment(place) | {f"ZAP_{key.upper()}": value for key, value in settings.items()}

    def rows(self, n: int, seed: int = 1) -> list[dict[str, Any]]:
        """Requests of n different drivers' next sessions, without `user_id`."""
        draw = random.Random(seed)
        return [
            {name: round(draw.uniform(low, high), digits) for name, (low, high, digits) in NUMBERS.items()}
            | {"user_type": draw.choice(self.user_types), "vehicle_model": draw.choice(self.vehicle_models)}
            for _ in range(n)
        ]

    def bodies(self, n: int = 256, *, of_drivers: bool = False) -> list[str]:
        """JSON of n different requests; of drivers with a past where asked."""
        rows = self.rows(n)
        if of_drivers:
            rows = [row | {"user_id": self.drivers[i % len(self.drivers)]} for i, row in enumerate(rows)]
        return [json.dumps(row) for row in rows]


def make_fixture(folder: Path, drivers: int, told: Callable[[str], Any]) -> Fixture:
    """Through zap's own commands, in processes of their own."""
    told(f"making a history of {drivers} drivers")
    run_zap(folder, "sample-history", "--drivers", str(drivers), "--json")
    told("training zap's model")
    run_zap(folder, "train", "--json")
    return read_fixture(folder)


def read_fixture(folder: Path) -> Fixture:
    """Of a folder with `zap.sqlite` and `models`."""
    with contextlib.closing(sqlite3.connect(folder / "zap.sqlite")) as database:
        # So few that most requests find their driver in memory: it is compared with the database once a second.
        users = database.execute("SELECT DISTINCT user_id FROM ChargingSessions ORDER BY user_id LIMIT 20").fetchall()
        types = database.execute("SELECT DISTINCT user_type FROM Users ORDER BY 1").fetchall()
        models = database.execute("SELECT DISTINCT vehicle_model FROM Vehicles ORDER BY 1").fetchall()
    return Fixture(folder, *([value for (value,) in column] for column in (users, types, models)))


def run_zap(folder: Path, *arguments: str, **environment: str) -> None:
    """`zap` with its database and models in a folder, unless the environment says otherwise.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "zap", *arguments],
        env={**os.environ, **_zap_environment(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"zap {arguments[0]} failed:\n{done.stderr[-2000:]}")


def _zap_environment(folder: Path) -> dict[str, str]:
    return {
        "ZAP_DATABASE_URL": f"sqlite:///{folder / 'zap.sqlite'}",
        "ZAP_MODELS_DIR": str(folder / "models"),
        "ZAP_LOG_FORMAT": "json",
        "ZAP_TRAINING_THREADS": "2",
        # This tree's zap, whatever is installed.
        "PYTHONPATH": str(REPOSITORY),
    }


def peer_python(peer: str) -> Path | None:
    """The Python of a peer's environment, where `make bench-peers` has made it."""
    python = PEERS / peer / "bin" / "python"
    return python if (PEERS / peer / ".installed").exists() and python.exists() else None


def train_peer(fixture: Fixture, peer: str, python: Path) -> Path:
    """The peer's model of the same history, trained in its own environment."""
    rows, place = fixture.folder / "history.csv.gz", fixture.folder / f"{peer}-model"
    if not rows.exists():
        _write_history(fixture, rows)
    trained = subprocess.run(
        [str(python), str(SERVERS / "peer_model.py"), str(rows), str(place), *(["--mlflow"] * (peer == "mlflow"))],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
        capture_output=True,
        text=True,
    )
    if trained.returncode:
        raise NoServer(f"{peer} has no model: {trained.stderr.strip()[-500:]}")
    return place


def _write_history(fixture: Fixture, file: Path) -> None:
    columns = [*NUMBERS, "user_type", "vehicle_model", "charging_start_time", "charger_type"]
    with contextlib.closing(sqlite3.connect(fixture.folder / "zap.sqlite")) as database:
        rows = database.execute(
            f"SELECT {', '.join(columns)} FROM ChargingSessions"
            " JOIN Users USING (user_id) JOIN Vehicles USING (vehicle_id)"
        ).fetchall()
    with gzip.open(file, "wt", newline="") as text:
        csv.writer(text).writerows([columns, *rows])
