"""The servers of the benchmark, by name."""

import json
import os
import sys
from dataclasses import replace

from harness.fixture import SERVERS, Fixture, peer_python, train_peer
from harness.server import Program, uvicorn

ZAP = [sys.executable, "-m", "zap", "serve", "--host", "127.0.0.1", "--port", "{port}"]
NAMES = ("asgi", "ceiling", "zap", "zap-normal", "one-commit", "mlflow", "fastapi")


class MissingPeer(Exception):
    """A peer whose environment is not there."""


def program(name: str, fixture: Fixture) -> Program:
    """One of NAMES, with a database of its own where it has one.

    Raises:
        MissingPeer: see `make bench-peers`.
    """
    bodies = fixture.bodies()
    if name == "asgi":
        command = [*uvicorn("asgi_floor:app", SERVERS), "--lifespan", "off"]
        return Program(name, "raw ASGI, constant answer", command, bodies)
    if name == "ceiling":
        command = uvicorn("litestar_ceiling:app", SERVERS)
        return Program(name, "Litestar, constant answer: the ceiling", command, bodies)
    if name in {"zap", "zap-normal"}:
        synchronous = "FULL" if name == "zap" else "NORMAL"
        environment = fixture.zap_environment(name, sqlite_synchronous=synchronous)
        return Program(name, f"zap, {synchronous}", ZAP, bodies, environment=environment)
    if name == "one-commit":
        environment = fixture.zap_environment(name, sqlite_synchronous="FULL")
        command = uvicorn("one_commit:app", SERVERS)
        return Program(name, "zap's pieces, one commit per request, FULL", command, bodies, environment=environment)
    return _peer(name, fixture, bodies)


def with_driver(fixture: Fixture) -> Program:
    """zap asked with the `user_id` of drivers that it remembers."""
    asked = program("zap", fixture)
    return replace(asked, name="zap-driver", title="zap, FULL, with user_id", bodies=fixture.bodies(of_drivers=True))


def _peer(name: str, fixture: Fixture, bodies: list[str]) -> Program:
    python = peer_python(name)
    if python is None:
        raise MissingPeer(f"{name} is not installed: `make bench-peers` makes its environment")
    model = train_peer(fixture, name, python)
    # What the peer imports comes from its own environment alone.
    environment = {
        "PYTHONPATH": "",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    if name == "mlflow":
        command = [
            str(python), "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local",
            "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        ]  # fmt: skip
        return Program(
            name, "MLflow models serve, no log", command, _in_columns(fixture), "/invocations", "predictions",
            environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    environment |= {
        "BENCH_MODEL": str(model),
        "BENCH_DATABASE_URL": f"sqlite:///{fixture.folder / 'fastapi.sqlite'}",
    }
    command = uvicorn("fastapi_two_commits:app", SERVERS, python)
    return Program(name, "FastAPI, one-row DataFrame, two commits", command, bodies, environment=environment)


def _in_columns(fixture: Fixture) -> list[str]:
    """The same requests as numbers, as MLflow's own protocol has them."""
    bodies = []
    for row in fixture.rows(256):
        numbers = row | {
            "user_type": float(fixture.user_types.index(row["user_type"])),
            "vehicle_model": float(fixture.vehicle_models.index(row["vehicle_model"])),
            "hour": 18.0,
        }
        split = {"columns": list(numbers), "data": [list(numbers.values())]}
        bodies.append(json.dumps({"dataframe_split": split}))
    return bodies
