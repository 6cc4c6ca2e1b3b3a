"""A soak by hand: load on a real server while it is killed, restarted, locked out, stalled and filled, from a seed.

`make soak SOAK="--minutes 60"`; `--postgresql URL` puts the database behind a proxy that stalls. It prints what was
lost, doubled, orphaned and late, and ends with 1 where anything was.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from asking import IN_TIME, fill
from sqlalchemy import create_engine, make_url, text
from stalling_proxy import StallingProxy

REQUEST = {
    "state_of_charge_start": 30.5,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
}
# Between two faults, and how long one lasts; seconds.
QUIET, LASTS = (1, 8), (1, 12)


class Soak:
    """The server, its load, and what came of each request."""

    def __init__(self, folder, url, through, proxy, rng):
        self.folder, self.url, self.proxy, self.rng = folder, url, proxy, rng
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = os.environ | {
            "ZAP_DATABASE_URL": through, "ZAP_MODELS_DIR": str(folder / "models"),
            "ZAP_PORT": str(self.port), "ZAP_LOG_FORMAT": "json", "ZAP_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        self.log = (folder.parent / f"{folder.name}-soak.log").open("wb")
        self.process = None
        self.acknowledged, self.late, self.statuses, self.faults = [], [], Counter(), Counter()

    def run(self, *command):
        subprocess.run([sys.executable, "-m", "zap", *command], env=self.environment, check=True, stdout=self.log)

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zap", "serve"], env=self.environment, stdout=self.log, stderr=self.log
        )

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
        self.process.send_signal(sign)
        begun = time.monotonic()
        await asyncio.to_thread(self.process.wait)
        if time.monotonic() - begun > 2 * IN_TIME:
            self.late.append(f"the end took {time.monotonic() - begun:.1f} s")

    async def kill(self):
        await self.end(signal.SIGKILL)
        self.start()

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

    async def last(self, minutes, connections):
        """Load and faults for so long, then a while without faults in which it must answer again."""
        over, end = asyncio.Event(), time.monotonic() + 60 * minutes
        self.start()
        asking = [asyncio.create_task(self.ask(over)) for _ in range(connections)]
        faults = self.possible()
        while time.monotonic() < end:
            await asyncio.sleep(self.rng.uniform(*QUIET))
            fault = self.rng.choice(faults)
            self.faults[fault.__name__] += 1
            await fault()
        before = len(self.acknowledged)
        await asyncio.sleep(20)
        over.set()
        await asyncio.gather(*asking)
        await self.end(signal.SIGTERM)
        return len(self.acknowledged) > before

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
        return {
            "lost": len(set(self.acknowledged) - {tuple(row) for row in rows}),
            "doubled": len(self.acknowledged) - len(set(self.acknowledged)) + sum(n > 1 for n in logged.values()),
            "orphaned": len(inputs ^ set(logged)),
            "late": len(self.late),
        }


@contextlib.contextmanager
def small_disk():
    """A folder on a file system of 512 MiB, where one can be mounted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", folder]
        mounted = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
        try:
            yield folder
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--postgresql", help="an empty database; without it SQLite")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    proxy = None
    with small_disk() as folder:
        url = through = options.postgresql or f"sqlite:///{folder / 'zap.sqlite'}"
        if options.postgresql:
            there = make_url(url)
            proxy = StallingProxy(there.host, there.port or 5432)
            through = there.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        soak = Soak(folder, url, through, proxy, random.Random(options.seed))
        soak.run("db", "upgrade")
        soak.run("sample-history", "--drivers", "40", "--months", "4")
        soak.run("train")
        answers_again = asyncio.run(soak.last(options.minutes, options.connections))
        found = soak.found()
        log_bytes = soak.log.tell()
        soak.log.close()
        if proxy:
            proxy.close()
    print("faults", dict(soak.faults))
    print("replies", dict(soak.statuses), f"log {log_bytes:,} bytes")
    print(f"{len(soak.acknowledged):,} answered;", ", ".join(f"{name} {n}" for name, n in found.items()))
    print("late:", soak.late[:20]) if soak.late else None
    if not answers_again:
        print("it did not answer again when the faults were over")
    sys.exit(bool(any(found.values()) or not answers_again))


if __name__ == "__main__":
    main()
