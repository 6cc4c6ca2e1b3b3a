"""How fast zap serves, beside what could be: the Litestar ceiling, raw ASGI, a commit per request, FastAPI, MLflow.

    python tests/benchmarks/serving.py --quick --only many,zap,ceiling

All in one run on this machine, in alternating rounds. It asserts nothing: absolute times are of this machine and this
run; what can be compared elsewhere are the ratios.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from harness.asked import judged
from harness.fixture import PEERS, REPOSITORY, make_fixture
from harness.load import RefusedRound, find_client
from harness.machine import find_cores, this_machine
from harness.plot import as_svg
from harness.programs import NAMES
from harness.report import as_markdown, as_text, write_into
from harness.scenarios import SCENARIOS, Bench
from harness.server import NoServer

# The page of the manual that shows a run, and its plot beside it.
PAGE = REPOSITORY / "zap" / "manual" / "performance.md"
PLOT = PAGE.with_suffix(".svg")


def options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="alternating rounds (default: 5, quick: 3)")
    parser.add_argument("--seconds", type=float, help="of each server in each round (default: 4, quick: 2)")
    parser.add_argument("--quick", action="store_true", help="short rounds and a small history: to see that it runs")
    parser.add_argument(
        "--only", type=_names, default=[], metavar="NAMES",
        help=f"scenarios ({', '.join(SCENARIOS)}) and servers ({', '.join(NAMES)}), with commas between",
    )  # fmt: skip
    parser.add_argument("--client", choices=["wrk", "python"], help="default: wrk where it is there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, round by round")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the plot (SVG)")
    parser.add_argument(
        "--manual", action="store_true", help=f"show this run in {PAGE.name} of the manual, with its plot"
    )
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (3 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (2 if chosen.quick else 4)
    return chosen


def _names(text):
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in SCENARIOS and name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: neither a scenario nor a server")
    return names


def figures(chosen, fixture, cores, machine):
    """All figures of one run."""
    client = chosen.client or find_client()
    names = [name for name in chosen.only if name in NAMES] or NAMES
    scenarios = [name for name in chosen.only if name in SCENARIOS] or SCENARIOS
    warm_up = min(1, chosen.seconds)
    found = {}
    with Bench(fixture, cores, client, chosen.rounds, chosen.seconds, warm_up, names, told) as bench:
        bench.note_disk()
        for name in scenarios:
            told(f"{name}: {SCENARIOS[name].__doc__.splitlines()[0]}")
            found[name] = SCENARIOS[name](bench)
    return {
        "machine": machine.as_dict(),
        "disk": {"syncs_per_second": statistics.median(bench.syncs), "spread": [min(bench.syncs), max(bench.syncs)]},
        "run": {"rounds": chosen.rounds, "seconds": chosen.seconds, "client": client, "cores": cores.said},
        "missing": bench.missing,
        "refused": bench.refused,
        "scenarios": {name: one.as_dict() for name, one in found.items()},
        "asked": judged(found),
    }


def new_folder():
    """Not in /tmp, which may be memory: the databases lie on the disk of this folder. What killed runs left goes."""
    PEERS.mkdir(exist_ok=True)
    for left in PEERS.glob("run-*"):
        try:
            os.kill(int(left.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(left)
        except PermissionError:
            # Somebody else's process has that number now, or still has the folder.
            continue
    return Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=PEERS))


def told(line):
    print(line, file=sys.stderr, flush=True)


def show(chosen, result):
    print(as_text(result))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.plot:
        chosen.plot.write_text(as_svg(result))
    if chosen.manual:
        PLOT.write_text(as_svg(result))
        write_into(PAGE, as_markdown(result, PLOT.name))
    if result["refused"]:
        sys.exit(1)


def main():
    chosen = options()
    # Told to stop, it ends what it started, as with Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = new_folder()
    try:
        cores = find_cores()
        # Before the fixture is made: its training is work of this run.
        machine = this_machine(len(cores.everything))
        fixture = make_fixture(folder, 40 if chosen.quick else 200, told)
        if cores.everything:
            # What this process does itself is load too.
            os.sched_setaffinity(0, set(cores.load))
        show(chosen, figures(chosen, fixture, cores, machine))
    except (RefusedRound, NoServer) as error:
        sys.exit(f"refused: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
