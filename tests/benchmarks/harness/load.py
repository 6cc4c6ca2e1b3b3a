"""Load on a server: by wrk, or where it is missing by the bundled Python client."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
Client = Literal["wrk", "python"]


class RefusedRound(Exception):
    """A round whose figures would not be what they say."""


@dataclass(frozen=True)
class Target:
    """Where to send which bodies, in turn."""

    port: int
    path: str
    bodies: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What one round found; `server_cpu_us` is what a request cost the server, where the system tells."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    server_cpu_us: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_client() -> Client:
    return "wrk" if shutil.which("wrk") else "python"


def on_cores(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """A command that runs on some cores."""
    return [sys.executable, str(HERE / "pinned.py"), ",".join(map(str, cores)), *command]


def measure(
    target: Target,
    *,
    connections: int,
    seconds: float,
    warm_up: float = 0,
    cores: Sequence[int] = (),
    client: Client | None = None,
    server_cpu: Callable[[], float | None] = lambda: None,
) -> Load:
    """Keep so many connections busy for so long; each sends its next request as soon as it has its answer.

    Args:
        target: where to send what.
        connections: kept alive.
        seconds: for wrk in whole seconds, at least one.
        warm_up: seconds of the same load before, which do not count.
        cores: of the load.
        client: by default wrk where it is there.
        server_cpu: the seconds of CPU that the server has used so far.

    Raises:
        RefusedRound: an answer was no 2xx, a connection failed, or there was no answer at all.
    """
    press = _wrk if (client or find_client()) == "wrk" else _python
    if warm_up:
        # A slow server may not have answered yet.
        _checked(press(target, connections, warm_up, cores), target, least=0)
    before = server_cpu()
    load = _checked(press(target, connections, seconds, cores), target)
    after = server_cpu()
    if before is None or after is None:
        return load
    return replace(load, server_cpu_us=(after - before) / load.requests * 1e6)


def at_a_rate(
    target: Target, *, rate: float, connections: int, cores: Sequence[int], until: Callable[[], bool]
) -> Load:
    """So many requests a second, whatever the server does, from the Python client, until it is enough.

    A request that has to wait for its connection counts from when it was due.

    Raises:
        RefusedRound: as in `measure`.
    """
    asked = _asked(target, connections, rate=rate)
    with subprocess.Popen(
        on_cores(cores, [sys.executable, str(HERE / "client.py")]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(asked)
            process.stdin.close()
            process.stdin = None
            while not until() and process.poll() is None:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        raise RefusedRound("the client ended before it could say what it found")
    return _checked(Load(**json.loads(out)), target)


def _checked(load: Load, target: Target, least: int = 1) -> Load:
    if load.errors:
        raise RefusedRound(
            f"{load.errors} of {load.requests} requests to port {target.port}{target.path} failed (an answer that is"
            " no 2xx, or a connection that broke): a round like this is no figure"
        )
    if load.requests < least:
        raise RefusedRound(f"no request to port {target.port}{target.path} was answered within the round: no figure")
    return load


def _asked(target: Target, connections: int, **more: float) -> str:
    return json.dumps(asdict(target) | {"connections": connections} | more)


def _python(target: Target, connections: int, seconds: float, cores: Sequence[int]) -> Load:
    done = subprocess.run(
        on_cores(cores, [sys.executable, str(HERE / "client.py")]),
        input=_asked(target, connections, seconds=seconds),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode:
        raise RefusedRound(f"the client failed: {done.stderr.strip()[-500:]}")
    return Load(**json.loads(done.stdout))


_WRK_SCRIPT = """
local bodies = {%s}
local requests, turn = {}, 0
init = function()
  local headers = {["Content-Type"] = "application/json", ["Host"] = "127.0.0.1"%s}
  for number, body in ipairs(bodies) do requests[number] = wrk.format("POST", nil, headers, body) end
end
request = function()
  turn = turn %% #requests + 1
  return requests[turn]
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests_per_second": %%f, "p50_ms": %%f, "p99_ms": %%f, "requests": %%d, "errors": %%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.requests, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def _wrk(target: Target, connections: int, seconds: float, cores: Sequence[int]) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        # Long brackets: JSON never holds ]==].
        bodies = ", ".join(f"[==[{body}]==]" for body in target.bodies)
        headers = "".join(f', ["{name}"] = "{value}"' for name, value in target.headers.items())
        script.write(_WRK_SCRIPT % (bodies, headers))
        script.flush()
        duration = max(1, round(seconds))
        command = [
            "wrk", "--latency", "--threads", "1", "--connections", str(connections), "--duration", f"{duration}s",
            "--timeout", "30s", "--script", script.name, f"http://127.0.0.1:{target.port}{target.path}",
        ]  # fmt: skip
        done = subprocess.run(
            on_cores(cores, command), capture_output=True, text=True, timeout=duration + 60, check=False
        )
    if done.returncode:
        raise RefusedRound(f"wrk failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return Load(**json.loads(done.stdout.strip().splitlines()[-1]))
