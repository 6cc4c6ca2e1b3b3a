"""A soak by hand: load on a real server while it is killed, restarted, locked out, stalled and filled, from a seed.

`make soak SOAK="--minutes 60"`; `--postgresql` puts a PostgreSQL of its own, or the one with this URL, behind a proxy
that stalls. `SOAK="--kills 100 --minutes 120"` only kills: a worker, the process above the workers, or all of them. It
prints what was lost, doubled, orphaned and late, and ends with 1 where anything was.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from faults.asking import IN_TIME, fill
from faults.stalling_proxy import StallingProxy
from own_postgresql import OwnPostgresql
from servers import Server, children, kept_port, listens, until, workers_of
from sqlalchemy import create_engine, make_url, text

from zap.settings import Settings

REQUEST = {
    "state_of_charge_start": 30.5,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
}
# The word for a PostgreSQL of its own.
OWN = "own"
# Between two faults, and how long one lasts; seconds.
QUIET, LASTS = (1, 8), (1, 12)
# Within this time after the last fault it answers as before; seconds.
AGAIN = 30


class Soak:
    """The server, its load, and what came of each request.

    Args:
        settings: of the server, with the way to the database through the proxy.
        url: the database itself.
        proxy: the proxy to the database; None on SQLite.
        rng: chooses the faults.
        workers: of the server.
        anew: whether each server is a new Python, as users start it.
    """

    def __init__(self, settings, url, proxy, rng, workers=1, *, anew=True):
        self.settings, self.url, self.proxy, self.rng = settings, url, proxy, rng
        self.folder = settings.models_dir.parent
        self._kept = kept_port()
        self.port = self._kept.getsockname()[1]
        self._workers, self._anew = str(workers), anew
        self.server, self.log_bytes = None, 0
        self.acknowledged, self.late, self.statuses, self.faults = [], [], Counter(), Counter()

    def start(self):
        self.server = Server(
            self.settings, "--workers", self._workers, port=self.port, anew=self._anew,
            variables={"ZAP_LOG_LEVEL": "WARNING"},
        )  # fmt: skip

    async def ask(self, over):
        """Ask again and again on one connection; a server that is gone is asked again in a moment."""
        while not over.is_set():
            async with httpx.AsyncClient(timeout=60, verify=False) as client:
                while not over.is_set():
                    begun = time.monotonic()
                    try:
                        reply = await client.post(f"http://127.0.0.1:{self.port}/predict", json=REQUEST)
                    except httpx.TransportError:
                        self.statuses["no reply"] += 1
                        await asyncio.sleep(0.2)
                        break
                    self.statuses[reply.status_code] += 1
                    if time.monotonic() - begun > IN_TIME:
                        self.late.append(round(time.monotonic() - begun, 1))
                    if reply.status_code == 200:
                        answer = reply.json()
                        self.acknowledged.append((answer["input_id"], answer["prediction_id"]))
                    else:
                        await asyncio.sleep(0.05)

    async def end(self, sign):
        self.server.process.send_signal(sign)
        begun = time.monotonic()
        await asyncio.to_thread(self.server.process.wait)
        # Workers whose parent was killed end by themselves.
        await asyncio.to_thread(until, lambda: not listens(self.port))
        if time.monotonic() - begun > 2 * IN_TIME:
            self.late.append(f"the end took {time.monotonic() - begun:.1f} s")
        self.log_bytes += len(self.server.log())
        self.server.close()

    async def kill(self):
        await self.end(signal.SIGKILL)
        self.start()

    async def kill_worker(self):
        if workers := workers_of(self.server):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers), signal.SIGKILL)

    async def kill_all(self):
        """Kill all processes at once, as if the machine had lost its power, except that the disk has not."""
        for pid in children(self.server.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.kill()

    async def restart(self):
        await self.end(signal.SIGTERM)
        self.start()

    async def stall(self):
        self.proxy.stall()
        await asyncio.sleep(self.rng.uniform(*LASTS))
        self.proxy.resume()

    async def cut(self):
        self.proxy.break_connections()

    async def lock(self):
        with contextlib.closing(
            sqlite3.connect(make_url(self.url).database, isolation_level=None, timeout=30)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(self.rng.uniform(*LASTS))
            other.execute("ROLLBACK")

    async def read_for_long(self):
        with contextlib.closing(sqlite3.connect(make_url(self.url).database, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM predictions").fetchall()
            await asyncio.sleep(self.rng.uniform(*LASTS))

    async def fill_disk(self):
        ballast = await asyncio.to_thread(fill, self.folder)
        await asyncio.sleep(self.rng.uniform(*LASTS))
        ballast.unlink()

    def possible(self):
        """The faults that can be made here."""
        if self.proxy:
            return [self.kill, self.restart, self.stall, self.cut]
        on_disk = [self.fill_disk] if os.path.ismount(self.folder) else []
        return [self.kill, self.restart, self.lock, self.read_for_long, *on_disk]

    async def last(self, minutes, connections, kills=None):
        """Load and faults for so long, then a while without faults in which it must answer again.

        With `kills` there are so many kills in this time, and no other faults.
        """
        over, begun = asyncio.Event(), time.monotonic()
        self.start()
        asking = [asyncio.create_task(self.ask(over)) for _ in range(connections)]
        # Most often a worker, because the others come back sooner.
        faults = self.possible() if kills is None else [self.kill_worker] * 3 + [self.kill, self.kill_all]
        quiet = QUIET if kills is None else (0.5 * 60 * minutes / kills, 1.5 * 60 * minutes / kills)
        while sum(self.faults.values()) < kills if kills else time.monotonic() < begun + 60 * minutes:
            await asyncio.sleep(self.rng.uniform(*quiet))
            if kills is not None:
                # Each one is killed while it answers.
                await self.answers_again(2 * connections)
            fault = self.rng.choice(faults)
            self.faults[fault.__name__] += 1
            await fault()
        answers_again = await self.answers_again(10 * connections)
        over.set()
        await asyncio.gather(*asking)
        await self.end(signal.SIGTERM)
        return answers_again

    async def answers_again(self, n):
        """Return whether so many requests are answered within AGAIN seconds."""
        enough = len(self.acknowledged) + n
        with contextlib.suppress(AssertionError):
            return await asyncio.to_thread(until, lambda: len(self.acknowledged) >= enough, AGAIN)
        return False

    def found(self):
        """Return the contradictions between the answers and the rows, by name."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT input_id, prediction_id FROM predictions WHERE source = 'inference'")
            ).all()
            inputs = set(connection.scalars(text("SELECT input_id FROM inference_inputs")))
        engine.dispose()
        logged = Counter(row[0] for row in rows)
        self._kept.close()
        return {
            "lost": len(set(self.acknowledged) - {tuple(row) for row in rows}),
            "doubled": len(self.acknowledged) - len(set(self.acknowledged)) + sum(n > 1 for n in logged.values()),
            "orphaned": len(inputs ^ set(logged)),
            "late": len(self.late),
        }


@contextlib.contextmanager
def place(*, small):
    """A folder, if it shall be small on a file system of 512 MiB, where one can be mounted.

    Kills need no full disk, and the answers of an hour do not fit on a small one.
    """
    with tempfile.TemporaryDirectory(dir=None if small else "/var/tmp") as name:
        folder = Path(name) / "disk"
        folder.mkdir()
        if not small:
            yield folder
            return
        command = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", folder]
        mounted = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
        try:
            yield folder
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def database(postgresql, folder):
    """Yield the URL of the database, its URL for the server, and the proxy between; None on SQLite."""
    if postgresql is None:
        url = f"sqlite:///{folder / 'zap.sqlite'}"
        yield url, url, None
        return
    with contextlib.ExitStack() as stack:
        if postgresql == OWN:
            own = stack.enter_context(contextlib.closing(OwnPostgresql().make()))
            assert own.start()
        there = make_url(own.url if postgresql == OWN else postgresql)
        proxy = stack.enter_context(contextlib.closing(StallingProxy(there.host, there.port or 5432)))
        through = there.set(host="127.0.0.1", port=proxy.port)
        yield *(one.render_as_string(hide_password=False) for one in (there, through)), proxy


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--workers", type=int, help="of the server; by default 1, and 2 with --kills")
    parser.add_argument("--kills", type=int, help="kill so often, and make no other faults")
    parser.add_argument(
        "--postgresql", nargs="?", const=OWN, help="a server of its own, or an empty database; else SQLite"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    with place(small=options.kills is None) as folder, database(options.postgresql, folder) as (url, through, proxy):
        settings = Settings(database_url=through, models_dir=folder / "models")
        workers = options.workers or (2 if options.kills else 1)
        soak = Soak(settings, url, proxy, random.Random(options.seed), workers)
        for command in (["db", "upgrade"], ["sample-history", "--drivers", "40", "--months", "4"], ["train"]):
            subprocess.run(
                [sys.executable, "-m", "zap", *command], env=os.environ | settings.environment(), check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        answers_again = asyncio.run(soak.last(options.minutes, options.connections, options.kills))
        found = soak.found()
    print("faults", dict(soak.faults))
    print("replies", dict(soak.statuses), f"log {soak.log_bytes:,} bytes")
    print(f"{len(soak.acknowledged):,} answered;", ", ".join(f"{name} {n}" for name, n in found.items()))
    print("late:", soak.late[:20]) if soak.late else None
    if not answers_again:
        print("it did not answer again when the faults were over")
    sys.exit(bool(any(found.values()) or not answers_again))


if __name__ == "__main__":
    main()
