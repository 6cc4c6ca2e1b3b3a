"""How long the server takes for each page, with a million predictions and 50,000 drivers (SQLite).

    python tests/benchmarks/pages.py --predictions 1000000 --drivers 50000

Makes a database with a small trained model, adds predictions with their outcomes, drivers and sessions, and starts a
server. Asks for each page of the navigation, and for one page of each kind that links lead to from there. Prints the
medians of ten answers in milliseconds: the CPU time of the server, and the time until the whole page was received. With
--database the database is kept, and is used again. With --browser, Chromium opens each page too, and what is wrong with
it there is printed (see `pages_in_browser.py`).
"""

import argparse
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from navigation import reachable
from pages_in_browser import look
from sqlalchemy import insert
from used import use

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.monitoring_tables import ServingCount
from zap.db.schema import upgrade
from zap.db.tables import utc_now
from zap.flows.training import run_training
from zap.ml.sample import sample_history
from zap.monitoring.answer_counts import SUBJECTS
from zap.settings import Settings

# What a page may take, in milliseconds.
MOST = 100
TYPES = ("DC Fast Charger", "Level 1", "Level 2")
DAYS = 90
_PORTION = 20_000


def settings_of(folder):
    """Return the settings of the database in a folder."""
    return Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)


def build(folder, predictions, drivers):
    """Make the database: a real model and some real answers, and copies of these answers for all drivers."""
    settings = settings_of(folder)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    sample = sample_history(seed=1, drivers=40, months=4)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    run_training(engine, settings, lambda *_: None)
    use(engine)
    now = utc_now()
    add_serving(engine, now)
    engine.dispose()
    connection = sqlite3.connect(folder / "zap.sqlite")
    for pragma in ("synchronous=OFF", "cache_size=-400000"):
        connection.execute(f"PRAGMA {pragma}")
    add_history(connection, drivers, now)
    add_answers(connection, predictions, drivers, now)
    add_days(connection, now)
    connection.commit()
    connection.close()


def portions(connection, statement, rows):
    """Insert rows in portions."""
    portion = []
    for row in rows:
        portion.append(row)
        if len(portion) == _PORTION:
            connection.executemany(statement, portion)
            portion.clear()
    connection.executemany(statement, portion)


def add_history(connection, drivers, now):
    """Add drivers with ten sessions each, and a vehicle."""
    portions(connection, 'INSERT INTO "Users"(user_id, user_type) VALUES (?, ?)',
             ((f"driver-{one:05}", "Commuter") for one in range(drivers)))  # fmt: skip
    portions(connection, 'INSERT INTO "Vehicles"(user_id, vehicle_model, battery_capacity_kwh) VALUES (?, ?, ?)',
             ((f"driver-{one:05}", "Leaf", 40.0) for one in range(drivers)))  # fmt: skip
    begin = now.replace(tzinfo=None) - timedelta(days=700)
    sessions = (
        (f"driver-{one:05}", TYPES[(one + turn) % 3], begin + timedelta(days=70 * turn, seconds=one), 12.5)
        for turn in range(10)
        for one in range(drivers)
    )
    portions(
        connection,
        'INSERT INTO "ChargingSessions"(user_id, charger_type, charging_start_time, charging_end_time,'
        " energy_consumed_kwh) VALUES (?, ?, ?, ?, ?)",
        ((user, kind, text(at), text(at + timedelta(hours=1)), energy) for user, kind, at, energy in sessions),
    )


def add_answers(connection, predictions, drivers, now):
    """Add copies of the real answers, evenly over the days, for drivers by chance; three of four have an outcome."""
    chance = random.Random(1)
    real = connection.execute(
        "SELECT predicted_class, model_version, probabilities, features FROM predictions WHERE source = 'inference'"
    ).fetchall()
    first, first_input = (
        connection.execute(f"SELECT max({name}) + 1 FROM {table}").fetchone()[0]
        for name, table in (("prediction_id", "predictions"), ("input_id", "inference_inputs"))
    )
    begin, step = now - timedelta(days=DAYS), timedelta(days=DAYS) / predictions
    moments = [begin + number * step for number in range(predictions)]
    users = [f"driver-{chance.randrange(drivers):05}" for _ in range(predictions)]
    portions(
        connection,
        "INSERT INTO inference_inputs VALUES (?, ?, ?)",
        (
            (first_input + n, stamp(at), json.dumps({"user_id": users[n], "charging_start_time": text(at, "T")}))
            for n, at in enumerate(moments)
        ),
    )
    portions(
        connection,
        "INSERT INTO predictions(prediction_id, input_id, prediction_timestamp, source, predicted_class, model_version,"
        " probabilities, features) VALUES (?, ?, ?, 'inference', ?, ?, ?, ?)",
        ((first + n, first_input + n, stamp(at), *real[n % len(real)]) for n, at in enumerate(moments)),
    )
    portions(
        connection,
        "INSERT INTO outcomes(prediction_id, model_version, user_id, asked_at, kind, status, session_id, actual_class,"
        " lag_seconds, matched_by) VALUES (?, 1, ?, ?, 'live', ?, ?, ?, ?, ?)",
        (
            (first + n, users[n], text(at), *(("matched", 1 + n, TYPES[n % 3], 60, "time") if n % 4 else _WAITS))
            for n, at in enumerate(moments)
        ),
    )
    connection.execute("UPDATE follower SET prediction_id = ?", (first + predictions - 1,))


_WAITS = ("waiting", None, None, None, None)


def add_days(connection, now):
    """Copy the sums of a real day to each day, and count something in each field on each day."""
    answers, sums = connection.execute("SELECT answers, sums FROM quality_days WHERE sums IS NOT NULL").fetchone()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days = [text(today - timedelta(days=number)) for number in range(DAYS)]
    connection.executemany(
        "INSERT OR IGNORE INTO quality_days(model_version, day, kind, answers, sums) VALUES (1, ?, 'live', ?, ?)",
        [(day, answers, sums) for day in days],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO data_quality_days VALUES (?, ?, ?, ?, ?)",
        [
            (day, subject, f"field_{field}", found, 3)
            for day in days
            for subject in ("requests", "sessions", "refused")
            for field in range(20)
            for found in ("missing", "unknown")
        ],
    )


def add_serving(engine, now):
    """Count a week of serving: the minutes of four processes in the last hour, and what older ones are merged into."""
    minute = now.replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    spans = [(1, minute - timedelta(minutes=n), process) for n in range(2, 60) for process in "bcde"]
    spans += [(10, hour - timedelta(minutes=60 + 10 * n), "") for n in range(1, 144)]
    spans += [(60, hour - timedelta(hours=26 + n), "") for n in range(7 * 24)]
    buckets = {str(place): 40 for place in range(20, 45)}
    numbers = {"answered": 1000, "refused": 3, "failed": 1, "nanoseconds": 10**9, "buckets": buckets}
    rows = [
        {"minutes": length, "begins_at": at, "subject": subject, "process": process, "number": n if process else 0}
        | numbers
        for n, (length, at, process) in enumerate(spans, start=1000)
        for subject in SUBJECTS
    ]
    with write_transaction(engine) as connection:
        connection.execute(insert(ServingCount), rows)


def text(moment, between=" "):
    """Return a wall time as it is stored."""
    return moment.replace(tzinfo=None, microsecond=0).isoformat(between)


def stamp(moment):
    """Return a moment as it is stored."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}+00:00"


def cpu_seconds(pid):
    """Return the CPU time of all threads of a process so far. A thread may end while it is looked at."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            nanoseconds += int(path.read_text().split()[0])
    return nanoseconds / 1e9


def measured(client, pid, path, times=10):
    """Return the medians of CPU and wall time of a page in milliseconds, and its bytes, after two warm-ups."""
    cpu, wall = [], []
    for turn in range(times + 2):
        before, begin = cpu_seconds(pid), time.perf_counter()
        reply = client.get(path).raise_for_status()
        took = time.perf_counter() - begin
        if turn >= 2:
            wall.append(1000 * took)
            cpu.append(1000 * (cpu_seconds(pid) - before))
    return statistics.median(cpu), statistics.median(wall), len(reply.content)


@contextmanager
def serving(folder):
    """Start a server on the database, and yield a client of it and the number of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | settings_of(folder).environment() | {"ZAP_PORT": port}
    server = subprocess.Popen(
        [sys.executable, "-m", "zap", "serve"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(client, server)
            yield client, server.pid
    finally:
        server.terminate()
        server.wait(60)


def measure(client, pid, paths):
    """Measure each page, and print the table. Return the pages that take too long."""
    slow = []
    print(f"{'page':<44} {'CPU, ms':>9} {'wall, ms':>9} {'KB':>7}")
    for path in paths:
        cpu, wall, size = measured(client, pid, path)
        if max(cpu, wall) > MOST:
            slow.append(path)
        mark = f"  more than {MOST} ms" if path in slow else ""
        print(f"{path:<44} {cpu:>9.1f} {wall:>9.1f} {size / 1024:>7.1f}{mark}", flush=True)
    return slow


def wait_for(client, server):
    """Wait until the server answers."""
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            client.get("/health/live").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the server does not answer")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--drivers", type=int, default=50_000)
    parser.add_argument("--database", type=Path, help="a folder to keep the database in")
    parser.add_argument("--browser", action="store_true", help="open each page in Chromium too")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zap-pages-") as temporary:
        folder = told.database or Path(temporary)
        begin = time.perf_counter()
        if not (folder / "done").exists():
            if folder.exists() and any(folder.iterdir()):
                parser.error(f"{folder} is not empty and has no finished database; remove it or name another folder")
            folder.mkdir(parents=True, exist_ok=True)
            build(folder, told.predictions, told.drivers)
            (folder / "done").write_text(f"{told.predictions:,} predictions, {told.drivers:,} drivers")
        size = (folder / "zap.sqlite").stat().st_size / 2**20
        print(f"{(folder / 'done').read_text()}, {size:,.0f} MiB, made in {time.perf_counter() - begin:.0f} s")
        with serving(folder) as (client, pid):
            paths = reachable(lambda path: client.get(path).raise_for_status().text)
            slow = measure(client, pid, paths)
            print(f"{len(slow)} pages take more than {MOST} ms" if slow else f"every page takes less than {MOST} ms")
            faults = look(str(client.base_url), paths) if told.browser else []
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
