"""How fast the follower works off a backlog of answers: outcomes, sums of live quality, counts of data quality.

    python tests/benchmarks/following.py
    python tests/benchmarks/following.py --answers 1000000 --postgresql postgresql+psycopg://USER@HOST/NAME

A process of its own follows a backlog as `zap follow` does. Most requests name a driver, and most drivers charge within
the day. Prints a table, or with --json one document. Figures are of this machine and this run; what can be compared
elsewhere is the ratio to reading the log alone. On PostgreSQL the database has to be an empty one.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from harness.fixture import NUMBERS, make_fixture, run_zap
from sqlalchemy import func, select
from sqlmodel import col
from training import resident_mb

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_store import read_history
from zap.db.monitoring_tables import Outcome, QualityDay
from zap.db.versions.model_registry import load_version, production_version
from zap.flows.looking_back import LookingBack
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.training import split_by_time
from zap.server.interpreter import collecting_seldom
from zap.settings import Settings

DRIVERS = 50_000
ANSWERS_OF_A_DAY = 50_000
BEGIN = datetime.fromisoformat("2026-01-05T00:00:00")
# Rows that are made and stored at once.
PORTION = 50_000
_json = msgspec.json.Encoder().encode


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--answers", type=int, default=200_000)
    options.add_argument("--drivers", type=int, default=200, help="of the history that the version is trained on")
    options.add_argument("--postgresql", metavar="URL", help="follow there and not on SQLite")
    options.add_argument("--json", action="store_true", help="one JSON document and no table")
    options.add_argument("--one", metavar="URL", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(followed(chosen.one)))
        return
    result = measured(chosen) | {
        "engine": "postgresql" if chosen.postgresql else "sqlite",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    print(json.dumps(result, indent=1) if chosen.json else table(result))


def measured(chosen):
    """Follow in a process of its own: its peak memory is of nothing else."""
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix=".following-", dir=Path.cwd()) as name:
        folder = Path(name)
        url = chosen.postgresql or f"sqlite:///{folder}/zap.sqlite"
        if chosen.postgresql:
            for command in (["sample-history", "--drivers", str(chosen.drivers)], ["train"]):
                run_zap(folder, *command, "--json", ZAP_DATABASE_URL=url)
        else:
            make_fixture(folder, chosen.drivers, told)
        told(f"making a backlog of {chosen.answers:,} answers")
        make_backlog(url, chosen.answers)
        told("following")
        command = [sys.executable, __file__, "--one", url]
        done = subprocess.run(command, stdout=subprocess.PIPE, cwd=folder, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_backlog(url, answers, seed=1):
    """Log answers of the version in production, one after the other over days, and store the sessions after them."""
    engine = create_engine(url)
    version = production_version(engine)
    model = ChargerTypeModel.from_fitted(load_version(engine, version))
    split = split_by_time(clean_history(read_history(engine)))
    matrix = model.matrix(split.test, split.test_past)
    said = model.probabilities(matrix).tolist()
    types = model.classes_.tolist()
    # What the log has of an answer, for each session of the test part.
    stored = [
        (types[row.index(max(row))], version.model_version, _json(dict(zip(types, row, strict=True))).decode(),
         features.astype("<f8").tobytes())
        for row, features in zip(said, matrix, strict=True)
    ]  # fmt: skip
    draw = random.Random(seed)
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        first = 1 + max(
            connection.exec_driver_sql(f"SELECT coalesce(max({key}), 0) FROM {name}").scalar_one()
            for name, key in (
                ("predictions", "prediction_id"),
                ("inference_inputs", "input_id"),
                ('"ChargingSessions"', "session_id"),
            )
        )
    for begin in range(0, answers, PORTION):
        inputs, predictions, sessions = [], [], []
        for number in range(first + begin, first + min(answers, begin + PORTION)):
            at = BEGIN + timedelta(seconds=(number - first) * 86400 // ANSWERS_OF_A_DAY)
            user = None if draw.random() < 0.05 else f"D{draw.randrange(DRIVERS):05d}"
            row = draw.randrange(len(stored))
            answer, answered = stored[row], said[row]
            stamp = at.replace(tzinfo=UTC, microsecond=number % 1_000_000)
            text = stamp.isoformat(timespec="microseconds") if sqlite else stamp
            inputs.append((number, text, request(draw, user, at if draw.random() < 0.5 else None)))
            predictions.append((number, number, text, "inference", *answer))
            if user is not None and draw.random() < 0.7:
                start = str(at + timedelta(seconds=draw.randrange(-600, 4 * 3600)))
                sessions.append((number, user, draw.choices(types, answered)[0], start))
        with write_transaction(engine) as connection:
            fill(connection, "inference_inputs", ("input_id", "request_timestamp", "input_data_json"), inputs)
            fill(
                connection,
                "predictions",
                (
                    "prediction_id", "input_id", "prediction_timestamp", "source", "predicted_class", "model_version",
                    "probabilities", "features",
                ),
                predictions,
            )  # fmt: skip
            names = ("session_id", "user_id", "charger_type", "charging_start_time")
            fill(connection, '"ChargingSessions"', names, sessions)
    if not sqlite:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def request(draw, user, at):
    """Return the JSON of a request about the next session of a driver."""
    body = {name: round(draw.uniform(low, high), digits) for name, (low, high, digits) in NUMBERS.items()}
    body |= {"user_type": "Commuter", "vehicle_model": "Tesla Model 3"}
    body |= {} if user is None else {"user_id": user}
    return json.dumps(body | ({} if at is None else {"charging_start_time": at.isoformat()}))


def fill(connection, name, columns, rows):
    """Insert many rows at once, past SQLAlchemy."""
    driver, names = connection.connection.driver_connection, ", ".join(columns)
    if connection.dialect.name == "sqlite":
        driver.executemany(f"INSERT INTO {name} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def followed(url):
    """Follow everything, and return what it took."""
    engine = create_engine(url)
    settings = Settings(database_url=url, timezone="UTC")
    reading = read_alone(engine)
    looking_back = LookingBack(engine, settings)
    spent = Spent(engine)
    with collecting_seldom():
        looking_back.following.look()
        following = spent.until_now()
        looking_back.look()
        whole = spent.until_now()
    looking_back.close()
    with engine.connect() as connection:
        answers = connection.scalar(select(func.count()).select_from(Outcome))
        matched = connection.scalar(select(func.count()).where(col(Outcome.status) == "matched"))
        superseded = connection.scalar(select(func.count()).where(col(Outcome.status) == "superseded"))
        days = connection.scalar(select(func.count()).select_from(QualityDay))
    engine.dispose()
    return {
        "answers": answers,
        "rows": looking_back.following.rows,
        "matched": matched,
        "superseded": superseded,
        "changed": looking_back.following.changed,
        "days": days,
        "following": following,
        "all_of_it": whole,
        "rows_per_second": round(answers / following["wall"]),
        "rows_per_cpu_second": round(answers / following["cpu"]),
        "reading_alone": reading,
        "ratio_to_reading": round(following["wall"] / reading["wall"], 2),
        "peak_mb": round(resident_mb("VmHWM")),
    }


def read_alone(engine):
    """Read the log as the follower does, and do nothing with it."""
    probabilities = "p.probabilities" if engine.dialect.name == "sqlite" else "p.probabilities::text"
    spent, last, rows = Spent(engine), 0, True
    with engine.connect() as connection:
        while rows:
            rows = connection.exec_driver_sql(
                f"SELECT p.prediction_id, p.model_version, p.predicted_class, {probabilities}, p.features,"
                " p.prediction_timestamp, i.request_timestamp, i.input_data_json FROM predictions AS p"
                f" JOIN inference_inputs AS i ON i.input_id = p.input_id WHERE p.prediction_id > {last}"
                " ORDER BY p.prediction_id LIMIT 1000"
            ).cursor.fetchall()
            last = rows[-1][0] if rows else last
    return spent.until_now()


class Spent:
    """Seconds since the beginning: of the clock, of this process, and of the backends of PostgreSQL where known."""

    def __init__(self, engine):
        self._engine = engine
        with engine.connect():
            # The connection that is used is there, and so is its backend.
            pass
        self._before = self._now()

    def _now(self):
        return {"wall": time.perf_counter(), "cpu": time.process_time(), "backend_cpu": backend_seconds(self._engine)}

    def until_now(self):
        return {name: round(value - self._before[name], 2) for name, value in self._now().items()}


def backend_seconds(engine):
    """Return the CPU seconds of the backends of this database that this machine knows."""
    if engine.dialect.name == "sqlite":
        return 0.0
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    with engine.connect() as connection:
        pids = connection.exec_driver_sql(asked).scalars().all()
    stats = [Path(f"/proc/{pid}/stat") for pid in pids]
    fields = [stat.read_text().rpartition(")")[2].split() for stat in stats if stat.exists()]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def table(result):
    following, whole, reading = result["following"], result["all_of_it"], result["reading_alone"]
    rows = [
        ("", "seconds", "CPU", "CPU of PostgreSQL", "rows/s"),
        *(
            (name, *(f"{one[key]:,.1f}" for key in ("wall", "cpu", "backend_cpu")),
             f"{result['answers'] / one['wall']:,.0f}")
            for name, one in (("following", following), ("with the looks after it", whole), ("reading alone", reading))
        ),
    ]  # fmt: skip
    lines = ["  ".join(cell.ljust(24) if place == 0 else cell.rjust(18) for place, cell in enumerate(r)) for r in rows]
    return "\n".join(
        [
            *lines,
            (
                f"{result['answers']:,} answers: {result['matched']:,} matched, {result['superseded']:,} superseded;"
                f" {result['changed']:,} changed later; {result['days']} days"
            ),
            (
                f"following takes {result['ratio_to_reading']} times as long as reading alone; peak of memory"
                f" {result['peak_mb']} MB"
            ),
            (
                f"{result['engine']}, {result['cores']} cores, Python {result['python']}, load average before"
                f" {result['load_average_before']}"
            ),
        ]
    )


def told(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
