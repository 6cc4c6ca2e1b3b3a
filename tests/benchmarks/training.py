"""What each phase of a training takes, and how much memory: from ten thousand to a million sessions.

    python tests/benchmarks/training.py
    python tests/benchmarks/training.py --sessions 10000 100000 --postgresql postgresql+psycopg://USER@HOST/NAME

A process of its own for each size runs the real training on a database of made-up sessions, and then LightGBM's bare
fit on the ready matrix, with the same rows, parameters and threads. Prints a table, or with --json one document. Times
are of this machine and this run; what can be compared elsewhere are the ratios. On PostgreSQL the database has to be
an empty one, and keeps the sessions of the last size.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

# As zap itself sets it, before LightGBM is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import lightgbm
from driver_history import made_up
from sqlalchemy import delete

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_rows import SESSIONS, USERS, VEHICLES
from zap.db.history.history_store import read_history
from zap.db.schema import upgrade
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml import training
from zap.ml.boosting import _ROWS_PER_THREAD
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.settings import Settings

# What is not compared with the bare fit: how drivers' pasts are walked has a benchmark of its own.
APART = ("features", "windows")
MB = 1_000_000
DRIVERS = 20  # sessions of each


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sessions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=200, help="boosting rounds")
    options.add_argument("--windows", action="store_true", help="evaluate over rolling windows too")
    options.add_argument("--postgresql", metavar="URL", help="train there and not on SQLite")
    options.add_argument("--json", action="store_true", help="one JSON document and no table")
    options.add_argument("--one", metavar="URL", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(trained(chosen)))
        return
    sizes = [measured(chosen, sessions) for sessions in sorted(chosen.sessions)]
    result = {
        "sizes": sizes,
        "growth": [growth(smaller, larger) for smaller, larger in pairwise(sizes)],
        "engine": "postgresql" if chosen.postgresql else "sqlite",
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "python": platform.python_version(),
        "lightgbm": lightgbm.__version__,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=1) if chosen.json else table(result))


def measured(chosen, sessions):
    """One size, in a process of its own: its peak memory is of nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        url = chosen.postgresql or f"sqlite:///{folder}/zap.sqlite"
        upgrade(url)
        store(url, made_up(sessions, max(10, sessions // DRIVERS)))
        command = [sys.executable, __file__, "--one", url, "--threads", str(chosen.threads)]
        command += ["--rounds", str(chosen.rounds), *["--windows"] * chosen.windows]
        done = subprocess.run(command, stdout=subprocess.PIPE, cwd=folder, text=True, check=True)
    return {"sessions": sessions, **json.loads(done.stdout.splitlines()[-1])}


def store(url, frame):
    """The made-up sessions as the three tables: a user has one vehicle, and is of one kind."""
    users = frame.drop_duplicates("user_id")
    vehicle = {user: number for number, user in enumerate(users["user_id"], start=1)}
    text = frame["charging_start_time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    sessions = frame.assign(
        session_id=frame["session_id"] + 1,
        vehicle_id=frame["user_id"].map(vehicle),
        charging_start_time=text,
        charging_end_time=frame["charging_end_time"].dt.strftime("%Y-%m-%d %H:%M:%S"),
    )
    engine = create_engine(url)
    with write_transaction(engine) as connection:
        for emptied in (SESSIONS, VEHICLES, USERS):
            connection.execute(delete(emptied))
        _fill(connection, USERS, users)
        _fill(connection, VEHICLES, users.assign(vehicle_id=users["user_id"].map(vehicle)))
        _fill(connection, SESSIONS, sessions)
    engine.dispose()


def _fill(connection, filled, frame):
    """All rows at once, past SQLAlchemy."""
    names = [column.name for column in filled.columns if column.name in frame]
    columns = ", ".join(f'"{name}"' for name in names)
    rows = zip(*(frame[name].tolist() for name in names), strict=True)
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.executemany(
            f'INSERT INTO "{filled.name}" ({columns}) VALUES ({", ".join("?" * len(names))})',
            rows,
        )
        return
    with driver.cursor() as cursor, cursor.copy(f'COPY "{filled.name}" ({columns}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


def trained(chosen):
    """Seconds of each phase of one training, of the bare fit, and the peak memory of the training in MB."""
    engine = create_engine(chosen.one)
    settings = Settings(database_url=chosen.one, models_dir=Path("models"), training_threads=chosen.threads)
    idle = resident_mb("VmRSS")
    peaks, cpu = {}, Clock()

    def progress(phase, _done, _total, _log_loss=None):
        cpu.tell(phase)
        peaks[phase] = resident_mb("VmHWM")

    options = TrainingOptions(windows=chosen.windows, hyper_parameters={"n_estimators": chosen.rounds})
    begin = time.perf_counter()
    report = run_training(engine, settings, progress, options)
    wall = time.perf_counter() - begin
    cpu.tell("")
    peak = resident_mb("VmHWM")
    bare, bare_cpu, shape = bare_fit(engine, report)
    phases = {name: round(seconds, 3) for name, seconds in report["phases"].items()}
    compared = wall - sum(phases.get(name, 0) for name in APART)
    compared_cpu = sum(seconds for name, seconds in cpu.seconds.items() if name not in APART)
    matrix = shape[0] * shape[1] * 8 / MB
    return {
        "phases": phases,
        "cpu": {name: round(seconds, 3) for name, seconds in cpu.seconds.items() if name},
        "bare_fit_cpu": round(bare_cpu, 3),
        "untimed": round(wall - sum(phases.values()), 3),
        "wall": round(wall, 2),
        "all_but_features_and_windows": round(compared, 3),
        "bare_fit": round(bare, 3),
        "ratio": round(compared / bare, 3),
        "cpu_ratio": round(compared_cpu / bare_cpu, 3),
        "idle_mb": round(idle),
        "peak_mb": round(peak),
        "peak_by_phase_mb": {name: round(mb) for name, mb in peaks.items()},
        "matrix_mb": round(matrix, 1),
        "columns": shape[1],
        "peak_over_matrix": round(peak / matrix, 2),
        "peak_above_idle_over_matrix": round((peak - idle) / matrix, 2),
    }


class Clock:
    """CPU seconds of all threads in each phase."""

    def __init__(self):
        self.seconds = {}
        self._phase, self._begin = "", time.process_time()

    def tell(self, phase):
        now = time.process_time()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0) + now - self._begin
        self._phase, self._begin = phase, now


def bare_fit(engine, report):
    """Wall and CPU seconds of `lightgbm.train` alone on the ready matrix, and the shape of that of all sessions."""
    split = training.split_by_time(clean_history(read_history(engine)))
    model = ChargerTypeModel(**report["hyper_parameters"])
    matrix, codes = model.prepare(split.train, split.train["charger_type"], past=split.train_past)
    shape = len(split.frame), matrix.shape[1]
    del split
    params = model.get_params() | {
        # As many threads as zap's own fit has.
        "n_jobs": min(model.n_jobs, -(-len(matrix) // _ROWS_PER_THREAD)),
        "objective": "multiclass",
        "num_class": len(model.classes_),
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    begin, begin_cpu = time.perf_counter(), time.process_time()
    lightgbm.train(params, lightgbm.Dataset(matrix, codes, categorical_feature=[5, 6]))
    return time.perf_counter() - begin, time.process_time() - begin_cpu, shape


def resident_mb(what):
    """Memory of this process: VmRSS now, VmHWM at its highest. Elsewhere than on Linux the highest alone is known."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(what)) * 1024 / MB


def growth(smaller, larger):
    """How many times longer each phase takes for how many times more sessions."""
    times = {
        name: round(seconds / smaller["phases"][name], 1)
        for name, seconds in larger["phases"].items()
        if smaller["phases"].get(name)
    }
    return {
        "sessions": larger["sessions"] / smaller["sessions"],
        "wall": round(larger["wall"] / smaller["wall"], 1),
        "phases": times,
    }


def table(result):
    """The sizes side by side, a line for each phase; then how it grows from each size to the next, as that one does."""
    sizes = result["sizes"]
    names = list(dict.fromkeys(name for size in sizes for name in size["phases"]))
    steps = [f"x{after['sessions'] / before['sessions']:.3g}" for before, after in pairwise(sizes)]
    rows = [["seconds", *(f"{size['sessions']:,}" for size in sizes), *steps]]

    def row(title, values, *, places=2, grows=True):
        shown = [f"{value:,.{places}f}" for value in values]
        growth = [f"x{after / before:.1f}" if grows and before else "" for before, after in pairwise(values)]
        rows.append([title, *shown, *growth])

    for name in names:
        row(name, [size["phases"].get(name, 0.0) for size in sizes])
    row("outside the phases", [size["untimed"] for size in sizes], grows=False)
    row("whole training", [size["wall"] for size in sizes])
    row("all but features and windows", [size["all_but_features_and_windows"] for size in sizes])
    row("bare lightgbm.train", [size["bare_fit"] for size in sizes])
    row("ratio", [size["ratio"] for size in sizes], grows=False)
    row("ratio of CPU time", [size["cpu_ratio"] for size in sizes], grows=False)
    row("peak memory, MB", [size["peak_mb"] for size in sizes], places=0, grows=False)
    row("idle, MB", [size["idle_mb"] for size in sizes], places=0, grows=False)
    row("feature matrix, MB", [size["matrix_mb"] for size in sizes], places=1, grows=False)
    row("peak over matrix", [size["peak_over_matrix"] for size in sizes], grows=False)
    row("peak above idle over matrix", [size["peak_above_idle_over_matrix"] for size in sizes], grows=False)
    widths = [max(len(one[place]) for one in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(one, widths, strict=True))
        )
        for one in rows
    ]
    return "\n".join([*lines, f"{result['engine']}, {result['threads']} threads, {result['rounds']} rounds"])


if __name__ == "__main__":
    main()
