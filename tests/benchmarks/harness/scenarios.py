"""What is measured: each scenario gives its loads and ratios, or says in a sentence why it has none."""

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from harness.disk import syncs_per_second
from harness.fixture import REPOSITORY, SERVERS, Fixture
from harness.keyed import keyed, scraped
from harness.load import Client, Load, RefusedRound, at_a_rate, measure, on_cores
from harness.looking_back import TITLES, beside, done, with_backlog
from harness.machine import Cores
from harness.programs import NAMES, MissingPeer, program, with_driver
from harness.rounds import Measured, Ratio, alternate, ratio
from harness.server import NoServer, Program, Server

CEILING = "ceiling"
BATCH_ROWS = 10_000
# While a training runs: so many requests a second, about a tenth of what one core can answer.
STEADY_RATE, STEADY_CONNECTIONS = 500, 8
_LONGEST_TRAINING_SECONDS = 300


@dataclass
class Bench:
    """What all scenarios share: the servers stay up for the whole run, and only one of them is asked at a time."""

    fixture: Fixture
    cores: Cores
    client: Client
    rounds: int
    seconds: float
    warm_up: float
    names: Sequence[str]
    told: Callable[[str], Any]
    missing: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    syncs: list[float] = field(default_factory=list)
    _servers: dict[str, Server] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def server(self, name: str) -> Server:
        """The running server of this name."""
        if name not in self._servers:
            self.told(f"starting {name}")
            started = Server(program(name, self.fixture), self.cores.server, self.fixture.folder)
            self._servers[name] = self._stack.enter_context(started)
        return self._servers[name]

    def there(self, wanted: Sequence[str]) -> dict[str, Server]:
        """Those of the wanted servers that were asked for and can run."""
        found = {}
        for name in wanted:
            if name in self.names:
                try:
                    found[name] = self.server(name)
                except MissingPeer as reason:
                    self.missing[name] = str(reason)
                except NoServer as reason:
                    self.refused[name] = str(reason)
        return found

    def load(self, server: Server, connections: int, asked: Program | None = None) -> Callable[[], Load]:
        target = replace(server.target, bodies=(asked or server.program).bodies)
        return lambda: measure(
            target, connections=connections, seconds=self.seconds, warm_up=self.warm_up, cores=self.cores.load,
            client=self.client, server_cpu=server.cpu_seconds,
        )  # fmt: skip

    def alternate(self, scenario: str, contenders: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
        """The rounds of all whose every round counts; of the others it is noted, loudly, why they were refused."""

        def unless_refused(name: str) -> Measured | None:
            title = f"{name}, {scenario}"
            if title in self.refused:
                return None
            try:
                return contenders[name]()
            except RefusedRound as reason:
                self.refused[title] = str(reason)
                self.told(f"REFUSED: {title}: {reason}")
                return None

        found = alternate({name: partial(unless_refused, name) for name in contenders}, self.rounds, self.told)
        return {name: [one for one in each if one is not None] for name, each in found.items() if None not in each}

    def note_disk(self) -> None:
        self.syncs.append(syncs_per_second(self.fixture.folder))


@dataclass
class Found:
    """What a scenario found.

    Attributes:
        title: what was done.
        loads: of each server, round by round.
        titles: of these servers.
        ratios: by what is compared.
        why_not: where there is nothing, why.
        figures: what else was measured.
    """

    title: str
    loads: dict[str, list[Load]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    why_not: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "why_not": self.why_not,
            "servers": {
                name: {
                    "title": self.titles[name],
                    **medians(loads),
                    "rounds": [load.as_dict() for load in loads],
                }
                for name, loads in self.loads.items()
            },
            "ratios": {name: one.as_dict() for name, one in self.ratios.items()},
            "figures": self.figures,
        }


def medians(loads: Sequence[Load]) -> dict[str, float | None]:
    names = ("requests_per_second", "p50_ms", "p99_ms", "server_cpu_us")
    each = {name: [getattr(load, name) for load in loads] for name in names}
    return {name: None if None in values else statistics.median(values) for name, values in each.items()}


def at_64(bench: Bench) -> Found:
    """All servers, 64 connections."""
    servers = bench.there(NAMES)
    found = Found("64 connections", titles=_titles(servers))
    contenders = {name: bench.load(server, 64) for name, server in servers.items()}
    if contenders:
        first = next(iter(contenders))
        press = contenders[first]
        # The disk is asked once a round, while no server has anything to do.
        contenders[first] = lambda: (bench.note_disk(), press())[1]
    found.loads = bench.alternate(found.title, contenders)
    for name in servers:
        _compare(found, name, CEILING, "requests_per_second")
    _compare(found, "zap", CEILING, "p99_ms")
    for peer in ("mlflow", "fastapi", "one-commit"):
        _compare(found, "zap", peer, "requests_per_second")
    return found


def at_1(bench: Bench) -> Found:
    """How long one driver alone waits."""
    servers = bench.there(["zap", CEILING, "mlflow"])
    found = Found("1 connection", titles=_titles(servers))
    contenders = {name: bench.load(server, 1) for name, server in servers.items()}
    found.loads = bench.alternate(found.title, contenders)
    for other in (CEILING, "mlflow"):
        _compare(found, "zap", other, "p50_ms")
    return found


def of_a_driver(bench: Bench) -> Found:
    """zap alone: anonymous requests beside the same ones with the `user_id` of a driver that it remembers."""
    servers = bench.there(["zap"])
    found = Found("with user_id, 64 connections", why_not=None if servers else "zap was not asked for")
    if servers:
        (server,) = servers.values()
        asked = with_driver(bench.fixture)
        found.titles = {"zap": "zap, FULL, anonymous", "zap-driver": asked.title}
        contenders = {"zap": bench.load(server, 64), "zap-driver": bench.load(server, 64, asked)}
        found.loads = bench.alternate(found.title, contenders)
        _compare(found, "zap-driver", "zap", "requests_per_second")
    return found


def in_a_batch(bench: Bench) -> Found:
    """10,000 rows in one request, beside LightGBM on the ready matrix on the same core."""
    found = Found(f"/predict/batch, {BATCH_ROWS:,} JSON rows")
    servers = bench.there(["zap"])
    if not servers:
        found.why_not = "zap was not asked for"
        return found
    (server,) = servers.values()
    body = json.dumps({"inputs": bench.fixture.rows(BATCH_ROWS)})
    reply, text = server.ask("POST", "/predict/batch", body)
    if reply.status != http.client.OK:
        missing = reply.status in {http.client.NOT_FOUND, http.client.METHOD_NOT_ALLOWED}
        found.why_not = "this zap has no /predict/batch" if missing else f"it answers {reply.status}: {text[:200]!r}"
        return found
    with _booster(bench, body) as predict:
        contenders = {"booster": predict, "batch": lambda: _batch_seconds(server, body)}
        seconds = bench.alternate(found.title, contenders)
    if "batch" in seconds:
        found.ratios["batch over booster: rows/s"] = ratio(seconds["booster"], seconds["batch"])
    found.figures = {
        f"{name}_rows_per_second": round(BATCH_ROWS / statistics.median(each)) for name, each in seconds.items()
    }
    return found


def while_training(bench: Bench) -> Found:
    """The p99 of a steady load while a training runs from its first to its last moment, beside the same load alone.

    Server, load and training share all cores. The load comes at a fixed rate from the Python client: as many
    connections as can be, each sending as soon as it has its answer, would measure the queue and not zap.
    """
    found = Found(
        f"{STEADY_RATE} requests/s while a training runs",
        titles={"idle": "zap, FULL, nothing else", "training": "zap, FULL, while a training runs"},
    )
    if "zap" not in bench.names:
        found.why_not = "zap was not asked for"
        return found
    environment = bench.fixture.zap_environment("zap-training", sqlite_synchronous="FULL")
    asked = replace(program("zap", bench.fixture), name="zap-training", environment=environment)
    bench = replace(bench, rounds=(bench.rounds + 1) // 2)
    with Server(asked, bench.cores.everything, bench.fixture.folder) as server:
        contenders = {"idle": lambda: _kept_up(_steady(bench, server, _after(bench.seconds * 2)))}
        contenders["training"] = lambda: _steady(bench, server, _training_ended(server))
        # What comes first after a start is slower.
        _steady(bench, server, _after(bench.warm_up + 1))
        found.loads = bench.alternate(found.title, contenders)
    _compare(found, "training", "idle", "p99_ms")
    return found


def while_looking_back(bench: Bench) -> Found:
    """/predict alone, beside a follower that works off a backlog, and beside a trial, each over the ceiling.

    Each round starts a new server from the same database, because a follower would go on beside the other servers. A
    follower in a process of its own, the server and the load share all cores.
    """
    found = Found("64 connections while zap looks back")
    if "zap" not in bench.names:
        found.why_not = "zap was not asked for"
        return found
    fixture = with_backlog(bench.fixture)
    work: dict[str, list[float]] = {"followed": [], "tried": []}

    def press(name: str) -> Load:
        with beside(name, fixture, bench.cores.server, bench.cores.everything) as server:
            before, begin = done(name, fixture), time.monotonic()
            load = bench.load(server, 64)()
            after, seconds = done(name, fixture), time.monotonic() - begin
        if name == "trial":
            work["tried"].append((after.tried - before.tried) / seconds)
        elif name == "follow":
            work["followed"].append((after.followed - before.followed) / seconds)
        return load

    contenders: dict[str, Callable[[], Load]] = {name: partial(press, name) for name in TITLES}
    servers = bench.there([CEILING])
    contenders |= {name: bench.load(server, 64) for name, server in servers.items()}
    found.titles = {**TITLES, **_titles(servers)}
    found.loads = bench.alternate(found.title, contenders)
    for name in TITLES:
        _compare(found, name, CEILING, "requests_per_second")
        if name != "alone":
            _compare(found, name, "alone", "requests_per_second")
    found.figures = {f"{name}_per_second": round(statistics.median(each)) for name, each in work.items() if each}
    return found


def with_a_key(bench: Bench) -> Found:
    """/predict with a scoped key and its limit, while the metrics are read each second, over no key and the ceiling."""
    found = Found("64 connections with a scoped key, metrics and the follower")
    if "zap" not in bench.names:
        found.why_not = "zap was not asked for"
        return found
    servers = bench.there(["zap", CEILING])
    with Server(keyed(bench.fixture), bench.cores.server, bench.fixture.folder) as server, scraped(server):
        contenders = {name: bench.load(one, 64) for name, one in (servers | {"zap-keyed": server}).items()}
        found.titles = _titles(servers) | {"zap-keyed": server.program.title}
        found.loads = bench.alternate(found.title, contenders)
    _compare(found, "zap-keyed", CEILING, "requests_per_second")
    _compare(found, "zap", CEILING, "requests_per_second")
    _compare(found, "zap-keyed", "zap", "requests_per_second")
    return found


SCENARIOS: Mapping[str, Callable[[Bench], Found]] = {
    "many": at_64,
    "one": at_1,
    "driver": of_a_driver,
    "batch": in_a_batch,
    "training": while_training,
    "follower": while_looking_back,
    "key": with_a_key,
}


def _titles(servers: Mapping[str, Server]) -> dict[str, str]:
    return {name: server.program.title for name, server in servers.items()}


def _compare(found: Found, ours: str, theirs: str, figure: str) -> None:
    if ours in found.loads and theirs in found.loads:
        found.ratios[f"{ours} over {theirs}: {figure}"] = ratio(
            [getattr(load, figure) for load in found.loads[ours]],
            [getattr(load, figure) for load in found.loads[theirs]],
        )


def _batch_seconds(server: Server, body: str) -> float:
    begin = time.perf_counter()
    reply, text = server.ask("POST", "/predict/batch", body)
    spent = time.perf_counter() - begin
    if reply.status != http.client.OK or len(json.loads(text)["predictions"]) != BATCH_ROWS:
        raise RefusedRound(f"/predict/batch answers {reply.status} {text[:200]!r}")
    return spent


@contextlib.contextmanager
def _booster(bench: Bench, body: str) -> Iterator[Callable[[], float]]:
    """The seconds that LightGBM alone needs for these rows, on the server's core."""
    rows = bench.fixture.folder / "batch.json"
    rows.write_text(body)
    command = [sys.executable, str(SERVERS / "booster.py"), str(bench.fixture.model_file), str(rows)]
    with subprocess.Popen(
        on_cores(bench.cores.server, command),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def predict() -> float:
            process.stdin.write("\n")
            return float(process.stdout.readline())

        predict()
        try:
            yield predict
        finally:
            process.terminate()


def _steady(bench: Bench, server: Server, until: Callable[[], bool]) -> Load:
    return at_a_rate(
        server.target, rate=STEADY_RATE, connections=STEADY_CONNECTIONS, cores=bench.cores.everything, until=until
    )


def _kept_up(load: Load) -> Load:
    """A server that falls behind with nothing else to do says nothing about what a training costs."""
    if load.requests_per_second < 0.9 * STEADY_RATE:
        raise RefusedRound(f"only {load.requests_per_second:.0f} of {STEADY_RATE} requests/s were answered")
    return load


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _training_ended(server: Server) -> Callable[[], bool]:
    """Starts a training once the load has come for a second; whether it has ended."""
    begin, place = time.monotonic() + 1, ""

    def ended() -> bool:
        nonlocal place
        if time.monotonic() < begin:
            return False
        if not place:
            reply, text = server.ask("POST", "/train-model", headers={"Prefer": "respond-async"})
            if reply.status != http.client.ACCEPTED:
                raise RefusedRound(f"/train-model answers {reply.status} {text[:300]!r}")
            place = reply.headers["Location"]
        end = begin + _LONGEST_TRAINING_SECONDS
        status = json.loads(server.ask("GET", place)[1])["status"]
        if status not in {"running", "finished"} or time.monotonic() > end:
            raise RefusedRound(f"the training did not end well: {status}")
        return status == "finished"

    return ended
