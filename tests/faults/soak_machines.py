"""A soak by hand of three machines in network namespaces, behind nginx, on one PostgreSQL. Linux and root only.

`make soak-machines MACHINES="--rounds 20"`. First the machines run the code of an older commit, and are upgraded one
after the other under load. Then in each round a machine is cut off from the database, loses all its processes, or
starts anew, or PostgreSQL restarts or crashes, while a version is promoted and rolled back. The last lines say what was
lost.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.upgrade import OLDER, REQUEST, TODAY, code_of, of_code, zap
from faults.machines import Changes, Machine, behind_nginx, judged
from faults.steady_load import SteadyLoad
from own_postgresql import OwnPostgresql
from servers import children
from sqlalchemy import create_engine, make_url
from trialled import add_copies

from zap.settings import Settings

RECOVERED_SECONDS = 10
CONNECTIONS = 20


def run(*command):
    subprocess.run(command, check=True)


class Namespaced(Machine):
    """A machine with a network of its own: what it sends to the database can be dropped without a word."""

    def __init__(self, n, database_url, folder, variables):
        url = make_url(database_url)
        self._name, self._database_port = f"zap-soak-{n}", str(url.port)
        self.host, here = f"10.77.{n}.2", f"10.77.{n}.1"
        self.inside = ("ip", "netns", "exec", self._name)
        run("ip", "netns", "add", self._name)
        run("ip", "link", "add", f"zap-soak-{n}", "type", "veth", "peer", "name", "eth0", "netns", self._name)
        run("ip", "address", "add", f"{here}/24", "dev", f"zap-soak-{n}")
        run("ip", "link", "set", f"zap-soak-{n}", "up")
        run(*self.inside, "ip", "address", "add", f"{self.host}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            run(*self.inside, "ip", "link", "set", device, "up")
        self._set(url.set(host=here).render_as_string(hide_password=False), folder, variables)

    def cut_off(self, seconds):
        for change in ("-A", "-D"):
            for chain, port in (("OUTPUT", "--dport"), ("INPUT", "--sport")):
                rule = (chain, "-p", "tcp", port, self._database_port, "-j", "DROP")
                run(*self.inside, "iptables", "-w", change, *rule)
            time.sleep(seconds if change == "-A" else 0)

    def kill(self):
        """Kill all processes at once, and start anew."""
        for pid in (*children(self.server.process.pid), self.server.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.server.process.wait()
        self.server.close()
        self.start().server.wait()

    def close(self):
        self._kept.close()
        if self.server is not None:
            self.server.close()
        run("ip", "netns", "delete", self._name)


def ask_beside(url, database_url, scenes, changes):
    """Play scenes under load. Return what was lost, and for each scene the seconds until p99 had recovered."""
    with SteadyLoad(url, [REQUEST], CONNECTIONS) as load, changes:
        time.sleep(10)
        now = time.monotonic()
        usual, recovered = load.p99(now - 8, now), []
        print(f"p99 {usual * 1000:.0f} ms", flush=True)
        for name, scene in scenes:
            begun = time.monotonic()
            scene()
            ended, found = time.monotonic(), None
            while found is None and time.monotonic() < ended + RECOVERED_SECONDS + 5:
                time.sleep(0.2)
                found = load.recovered(ended, max(2 * usual, 0.25))
            recovered.append((name, found))
            print(f"{name}: {ended - begun:.1f} s, recovered after {found} s", flush=True)
    statuses = [one.status for one in load.replies]
    print({status: statuses.count(status) for status in sorted(set(statuses))}, f"lag {load.lag:.2f} s")
    late = [name for name, seconds in recovered if seconds is None or seconds > RECOVERED_SECONDS]
    return judged(load, changes, database_url) | {"late": len(late)}


class NoChanges(contextlib.nullcontext):
    """Stand for changes: an older zap cannot load a version of the newer schema, so no version is changed."""

    def was_in_production(self, _version, _at, _tolerance):
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--commit", default=OLDER, help="the code of the older zap")
    options = parser.parse_args()
    lacking = [program for program in ("ip", "iptables", "nginx") if shutil.which(program) is None]
    if lacking:
        parser.error(
            f"{' and '.join(lacking)} must be installed; on Debian: apt-get install iproute2 iptables nginx-light"
        )
    rng = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = stack.enter_context(contextlib.closing(OwnPostgresql(listen_addresses="*").make()))
        with (own.folder / "data" / "pg_hba.conf").open("a") as trusted:
            trusted.write("host all all 10.77.0.0/16 trust\n")
        assert own.start()
        older, settings = (
            code_of(options.commit, folder / "older"),
            Settings(database_url=own.url, models_dir=folder / "models"),
        )
        for command in (["db", "upgrade"], ["sample-history", "--drivers", "40", "--months", "4"], ["train"]):
            zap(older, settings, *command)
        machines = [
            stack.enter_context(contextlib.closing(Namespaced(n, own.url, folder / f"models{n}", of_code(older))))
            for n in (1, 2, 3)
        ]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.server.wait()
        url = stack.enter_context(behind_nginx(machines, folder))

        def upgrade_all():
            zap(TODAY, settings, "db", "upgrade")
            for machine in machines:
                machine.variables = of_code(TODAY)
                machine.restart()

        def restart_postgresql(sign):
            own.stop(sign)
            assert own.start()

        def cut_off():
            rng.choice(machines).cut_off(rng.uniform(1, 12))

        kinds = {
            "a machine is cut off": cut_off,
            "a machine dies": lambda: rng.choice(machines).kill(),
            "a machine starts anew": lambda: rng.choice(machines).restart(),
            "PostgreSQL restarts": lambda: restart_postgresql(signal.SIGINT),
            "PostgreSQL crashes": lambda: restart_postgresql(signal.SIGQUIT),
        }

        found = [ask_beside(url, own.url, [("a rolling upgrade", upgrade_all)], NoChanges())]
        engine = create_engine(own.url)
        add_copies(engine)
        engine.dispose()
        # Each kind once, in any order, and again.
        names = [name for _ in range(0, options.rounds, len(kinds)) for name in rng.sample([*kinds], len(kinds))]
        scenes = [(name, kinds[name]) for name in names[: options.rounds]]
        found.append(ask_beside(url, own.url, scenes, Changes(own.url, pause=2.5)))
    for one in found:
        print(one)
    sys.exit(any(any(one.values()) for one in found))


if __name__ == "__main__":
    main()
