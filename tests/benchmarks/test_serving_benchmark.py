"""The serving benchmark can be believed: it finds a planted slowdown, refuses bad rounds, leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
import serving
from harness.asked import ALL
from harness.disk import syncs_per_second
from harness.fixture import SERVERS, read_fixture
from harness.load import RefusedRound, at_a_rate, find_client, measure
from harness.machine import find_cores, this_machine
from harness.plot import as_svg
from harness.programs import NAMES, program
from harness.report import as_markdown, as_text, write_into
from harness.rounds import Ratio, alternate, ratio
from harness.server import NoServer, Program, Server, uvicorn

from zap.controllers.prediction_reply import PredictReply

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parent
CLIENTS = ["python", pytest.param("wrk", marks=pytest.mark.skipif(find_client() != "wrk", reason="wrk is not here"))]


def planted(name, turns, fails_from=0):
    """A server whose answers cost so many turns of work, and fail from the nth on."""
    environment = {"BENCH_TURNS": str(turns), "BENCH_FAILS_FROM": str(fails_from)}
    command = [*uvicorn("planted:app", SERVERS), "--lifespan", "off"]
    return Program(name, name, command, ['{"a": 1}', '{"a": 2}'], environment=environment)


@pytest.fixture
def start(tmp_path):
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda program: stack.enter_context(Server(program, find_cores().server, tmp_path))


def test_a_planted_slowdown_of_two_is_found(start):
    # Each client compares short alternating rounds, in which the planted work is most of a request's cost. The CPU of
    # the server always shows the slowdown. The clock shows it only if no other process, such as a test, uses the cores.
    servers = {"quick": start(planted("quick", 2000)), "slow": start(planted("slow", 4000))}

    def compared(client, seconds, rounds):
        def press(server):
            return lambda: measure(
                server.target, connections=4, seconds=seconds, cores=find_cores().load, client=client,
                server_cpu=server.cpu_seconds,
            )  # fmt: skip

        found = alternate({name: press(server) for name, server in servers.items()}, rounds)
        rates, costs = (
            {name: [getattr(load, figure) for load in loads] for name, loads in found.items()}
            for figure in ("requests_per_second", "server_cpu_us")
        )
        return ratio(rates["quick"], rates["slow"]), ratio(costs["slow"], costs["quick"])

    by_client = {"python": compared("python", 0.25, 9)}
    if find_client() == "wrk":
        by_client["wrk"] = compared("wrk", 1, 3)

    alone = os.getloadavg()[0] < len(find_cores().everything)
    for client, (by_the_clock, by_cpu) in by_client.items():
        for found in (by_cpu, by_the_clock) if alone else (by_cpu,):
            low, high = found.interval
            assert 1.4 < found.median < 2.8, (client, found)
            assert 1 < low < 2.6, (client, found)
            assert high > 1.5, (client, found)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_round_with_errors_is_refused(start, client):
    # The first answer is good: the server is up, and only the load can find out.
    target = start(planted("failing", 1, fails_from=2)).target

    with pytest.raises(RefusedRound, match="no figure"):
        measure(target, connections=4, seconds=1, client=client)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_dies_is_refused(start, client):
    server = start(planted("dying", 1))
    server.process.kill()
    server.process.wait()

    with pytest.raises(RefusedRound):
        measure(server.target, connections=4, seconds=1, client=client)


def test_a_server_that_answers_wrongly_is_none(start):
    with pytest.raises(NoServer, match=r"answers 500|is not there"):
        start(planted("broken", 1, fails_from=1))


def test_a_steady_load_keeps_its_rate(start):
    target = start(planted("steady", 1)).target
    end = time.monotonic() + 2

    found = at_a_rate(target, rate=100, connections=4, cores=(), until=lambda: time.monotonic() >= end)

    # It sends from when its own process is there.
    assert 50 < found.requests <= 201
    assert found.errors == 0


LEFT_BEHIND = """
import signal, sys, time
# Whoever has started the tests may ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from xml.etree import ElementTree as ET
from harness.machine import find_cores, this_machine
from harness.server import Server
from test_serving_benchmark import planted

with Server(planted("left", 1), find_cores().server, Path(sys.argv[1])) as server:
    print(server.process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, sig):
    # This holds after Ctrl-C, and after an end without a chance to clean up.
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    with subprocess.Popen(
        [sys.executable, "-c", LEFT_BEHIND, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as harness:  # fmt: skip
        pid = int(harness.stdout.readline())
        assert runs(pid)
        harness.send_signal(sig)
        harness.wait(60)

    end = time.monotonic() + 45
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not runs(pid)


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    # What has ended and waits for its parent to notice has ended.
    return state != "Z"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"mlflow", "fastapi", "zap-normal"}])
def test_every_server_answers_as_zap_does(trained_sqlite, tmp_path, start, name):
    fixture = read_fixture(tmp_path)

    answer = start(program(name, fixture)).answer()

    assert list(answer) == [field.name for field in msgspec.structs.fields(PredictReply)]
    assert set(answer["probabilities"]) == {"DC Fast Charger", "Level 1", "Level 2"}


def test_a_run_says_what_was_measured_and_what_was_not(trained_sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.fixture.PEERS", tmp_path / "no-peers")
    # So few that a machine which runs other tests too keeps up.
    monkeypatch.setattr("harness.scenarios.STEADY_RATE", 20)
    chosen = serving.options(
        ["--rounds", "1", "--seconds", "1", "--only", "many,driver,batch,training,asgi,ceiling,zap,mlflow"]
    )

    cores = find_cores()
    result = serving.figures(chosen, read_fixture(tmp_path), cores, this_machine(len(cores.everything)))

    assert set(result["scenarios"]["many"]["servers"]) == {"asgi", "ceiling", "zap"}
    assert "make bench-peers" in result["missing"]["mlflow"]
    assert not result["refused"]
    figures = {row["figure"]: row for row in result["asked"]}
    assert len(figures) == len(ALL)
    for figure in (ALL[0], ALL[4], ALL[6], ALL[8]):
        assert figures[figure.figure]["measured"]["median"] > 0
        assert figures[figure.figure]["reached"] in {"no", "yes", "the target"}
    assert figures[ALL[2].figure]["reached"].startswith("not measured")
    text = as_text(result)
    assert all(title in text for title in ("raw ASGI", "zap, FULL", "while a training runs", "fdatasync of 12 KiB"))
    ET.fromstring(as_svg(result))
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    write_into(page, as_markdown(result, "plot.svg"))
    assert page.read_text().startswith("before\n<!-- bench -->")
    assert page.read_text().endswith("<!-- /bench -->\nafter\n")
    assert "old" not in page.read_text()
    result["run"]["client"] = "python"
    assert "WHICH IS THE BOTTLENECK" in as_text(result)


@pytest.mark.parametrize(
    ("each", "median", "interval"),
    [
        ([2, 1, 3], 2, (1, 3)),
        ([1, 2, 3, 4, 5, 6, 7, 8], 4.5, (1, 8)),
        ([9, 1, 2, 3, 4, 5, 6, 7, 8], 5, (2, 8)),
        ([2] * 12, 2, (2, 2)),
    ],
)
def test_an_interval_holds_the_median(each, median, interval):
    found = Ratio(tuple(each))

    assert found.median == median
    assert found.interval == interval
    assert found.spread == (min(each), max(each))


def test_rounds_alternate():
    order = []

    alternate({name: lambda name=name: order.append(name) for name in "abc"}, 3)

    assert "".join(order) == "abccbaabc"


def test_the_disk_is_asked(tmp_path):
    assert syncs_per_second(tmp_path, 0.05) > 0
    assert not list(tmp_path.iterdir())
