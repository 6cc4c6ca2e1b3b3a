"""How long the server takes for each page, with a million predictions and 50,000 drivers, on SQLite or PostgreSQL.

    python tests/benchmarks/pages.py --predictions 1000000 --drivers 50000
    python tests/benchmarks/pages.py --postgresql postgresql+psycopg://postgres@127.0.0.1:5432/postgres

Makes a database with a small trained model, adds predictions with their outcomes, drivers, sessions and full states of
the monitors, and starts a server. With --postgresql, it copies the database to this server, and drops the copy in the
end. Asks for each page of the navigation, and for one page of each kind that links lead to from there. Prints the
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
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import sqlalchemy
from navigation import reachable
from pages_in_browser import look
from sqlalchemy import insert, make_url
from sqlalchemy import text as text_of
from sqlmodel import SQLModel
from used import use

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.monitoring.monitor_states import Remembered, store_monitor, store_references
from zap.db.monitoring_tables import ServingCount
from zap.db.schema import upgrade
from zap.db.tables import utc_now
from zap.flows.monitor_references import find_references
from zap.flows.training import run_training
from zap.ml.sample import sample_history
from zap.monitoring.answer_counts import SUBJECTS
from zap.monitoring.drift_state import MOST_JUDGED, DriftState, JudgedWeek, Week
from zap.monitoring.driver_sample import MOST_DRIVERS
from zap.monitoring.watched import week_of
from zap.settings import Settings

# What a page may take, in milliseconds.
MOST = 100
TYPES = ("DC Fast Charger", "Level 1", "Level 2")
DAYS = 90
_PORTION = 20_000


def settings_of(folder, url=None):
    """Return the settings of the database in a folder, or of its copy."""
    url = url or f"sqlite:///{folder / 'zap.sqlite'}"
    return Settings(database_url=url, models_dir=folder / "models", follow=False)


@contextmanager
def copied(folder, server):
    """Yield the URL of a copy of the database in a folder on a PostgreSQL server."""
    name = f"zap_pages_{uuid4().hex[:8]}"
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    admin = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text_of(f'CREATE DATABASE "{name}"'))
    try:
        upgrade(url)
        source, target = create_engine(settings_of(folder).database_url), create_engine(url)
        with source.connect() as reading, target.begin() as writing:
            # What the migrations have filled, and what logs changes of sessions.
            writing.execute(text_of("SET session_replication_role = replica"))
            for table in SQLModel.metadata.sorted_tables:
                writing.execute(table.delete())
                for rows in reading.execute(table.select()).mappings().partitions(_PORTION):
                    writing.execute(insert(table), [dict(row) for row in rows])
        with target.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text_of("ANALYZE"))
        source.dispose()
        target.dispose()
        yield url
    finally:
        with admin.connect() as connection:
            connection.execute(text_of(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        admin.dispose()


def build(folder, predictions, drivers):
    """Make the database: a real model and some real answers, and copies of these answers for all drivers."""
    settings = settings_of(folder)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    # Fewer drivers have no reference of drift.
    sample = sample_history(seed=1, drivers=80, months=4)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    run_training(engine, settings, lambda *_: None)
    use(engine)
    now = utc_now()
    add_serving(engine, now)
    add_monitors(engine, now)
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


def add_monitors(engine, now):
    """Add the states of the monitors of version 1, with as many drivers, weeks and days as they may have."""
    references, chance = find_references(engine, 1), random.Random(1)
    features = {one["name"]: len(one["counts"]) + 1 for one in references["drift"]["features"]}
    week = int(week_of(now.timestamp()))
    counts = {name: [chance.randrange(5000) for _ in range(bins)] for name, bins in features.items()}
    weeks = [Week(week - ago, [chance.getrandbits(63) for _ in range(MOST_DRIVERS)], counts) for ago in range(4, 0, -1)]
    drift = DriftState.beginning(week)
    drift.past = weeks
    sums = dict.fromkeys(features, 0.5)
    drift.judged = [JudgedWeek(week - ago, MOST_DRIVERS, counts, sums) for ago in range(MOST_JUDGED, 0, -1)]
    for _ in range(MOST_DRIVERS):
        number = chance.getrandbits(64)
        drift.sample.rows[number], drift.sample._orders[number] = bytes(24), number
    with write_transaction(engine) as connection:
        store_references(connection, 1, references)
        store_monitor(connection, 1, "drift", Remembered(references["drift"], drift.to_plain(), 1))


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
def serving(folder, url=None):
    """Start a server on the database, and yield a client of it and the number of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | settings_of(folder, url).environment() | {"ZAP_PORT": port}
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
    parser.add_argument("--postgresql", help="the URL of a server, for a copy of the database")
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
        with (
            copied(folder, told.postgresql) if told.postgresql else nullcontext() as url,
            serving(folder, url) as (client, pid),
        ):
            paths = reachable(lambda path: client.get(path).raise_for_status().text)
            slow = measure(client, pid, paths)
            print(f"{len(slow)} pages take more than {MOST} ms" if slow else f"every page takes less than {MOST} ms")
            faults = look(str(client.base_url), paths) if told.browser else []
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
