"""Upgrade a database that an older zap has made and filled, while a server of that zap answers.

`PYTHONPATH=tests python tests/benchmarks/upgrade.py --predictions 1000000 --postgresql`. The older zap is the code of a
commit. It makes the database, trains and predicts; its rows are then copied to the number that is wanted. Said are the
seconds and the memory of `zap db upgrade`, what came of the requests meanwhile, and whether every row is as before.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from faults.steady_load import SteadyLoad
from own_postgresql import OwnPostgresql
from servers import Server, until
from sqlalchemy import MetaData, create_engine, literal, select, text

from zap.settings import Settings

TODAY = Path(__file__).resolve().parents[2]
OLDER = "a9e48ac"
REQUEST = {
    "state_of_charge_start": 30.5,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
    "user_id": "sample-1-00003",
}
# The rows that the older zap writes itself.
WRITTEN = 1000
# An upgrade changes the artefacts of versions on purpose, and the revision.
CHANGED = {("model_versions", name) for name in ("artefact", "sha256", "file_sha256")} | {("alembic_version", None)}


def of_code(folder):
    """Return the variables with which a new Python imports the zap in a folder, not the one in the present folder."""
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def zap(code, settings, *command, text=None):
    """Run a command of the zap in a folder. Return its seconds, and the most bytes of memory that it held."""
    begun = time.monotonic()
    environment = os.environ | settings.environment() | of_code(code)
    with subprocess.Popen(
        [sys.executable, "-m", "zap", *command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        process.stdin.write((text or "").encode())
        process.stdin.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"zap {' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - begun, used.ru_maxrss * 1024


def code_of(commit, folder):
    """Write the code of a commit into a folder. Return the folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "-C", TODAY, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def fill(engine, predictions):
    """Copy the requests and answers of the older zap until there are so many."""
    with engine.begin() as connection:
        inputs, answers = (
            connection.execute(text(f"SELECT max({key}) FROM {table}")).scalar_one()
            for table, key in (("inference_inputs", "input_id"), ("predictions", "prediction_id"))
        )
        n = connection.execute(text("SELECT count(*) FROM inference_inputs")).scalar_one()
        columns = [column.name for column in tables(engine)["predictions"].columns][2:]
        for copy in range(1, predictions // n):
            shift = {"inputs": copy * inputs, "answers": copy * (answers + 1), "n": inputs}
            connection.execute(
                text(
                    "INSERT INTO inference_inputs (input_id, request_timestamp, input_data_json)"
                    " SELECT input_id + :inputs, request_timestamp, input_data_json FROM inference_inputs"
                    " WHERE input_id <= :n"
                ),
                shift,
            )
            connection.execute(
                text(
                    f"INSERT INTO predictions (prediction_id, input_id, {', '.join(columns)})"
                    f" SELECT prediction_id + :answers, input_id + :inputs, {', '.join(columns)} FROM predictions"
                    " WHERE input_id <= :n"
                ),
                shift,
            )
        if engine.dialect.name == "postgresql":
            for table, key in (("inference_inputs", "input_id"), ("predictions", "prediction_id")):
                connection.execute(
                    text(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), max({key})) FROM {table}")
                )


def tables(engine):
    """Return the tables of a database by their names."""
    known = MetaData()
    known.reflect(engine)
    return known.tables


def digests(engine, names, most):
    """Return for each table the number of its rows and a hash of them.

    Args:
        engine: on the database.
        names: the columns to read, by table.
        most: for each table the largest value of its first column: later rows are those of a server that answers.
    """
    found = {}
    there = tables(engine)
    with engine.connect() as connection:
        for table, columns in names.items():
            key, *others = (there[table].columns[name] for name in columns)
            rows = select(key, *others).where(key <= literal(most[table], key.type)).order_by(key)
            digest, n = hashlib.sha256(), 0
            for row in connection.execution_options(stream_results=True, yield_per=5000).execute(rows):
                digest.update(repr(tuple(row)).encode())
                n += 1
            found[table] = n, digest.hexdigest()
    return found


def upgraded(folder, url, commit, predictions):
    """Make a database with the older zap, and upgrade it beside its server. Return what was measured."""
    older = code_of(commit, folder / "older")
    settings = Settings(database_url=url, models_dir=folder / "models", follow=False)
    for command in (["db", "upgrade"], ["sample-history", "--drivers", "40", "--months", "4"], ["train"]):
        zap(older, settings, *command)
    (folder / "asked.ndjson").write_text(f"{json.dumps(REQUEST)}\n" * WRITTEN)
    zap(older, settings, "predict", str(folder / "asked.ndjson"), "--out", str(folder / "answered.ndjson"))
    engine = create_engine(url)
    fill(engine, predictions)
    names = {
        name: [column.name for column in table.columns if (name, column.name) not in CHANGED]
        for name, table in tables(engine).items()
        if (name, None) not in CHANGED
    }
    with engine.connect() as connection:
        most = {
            table: connection.execute(text(f'SELECT max("{columns[0]}") FROM "{table}"')).scalar_one()
            for table, columns in names.items()
        }
    before = digests(engine, names, most)
    with contextlib.closing(Server(settings, anew=True, variables=of_code(older))) as server:
        server.wait()
        with SteadyLoad(server.url, [REQUEST], connections=4) as load:
            time.sleep(3)
            seconds, memory = zap(TODAY, settings, "db", "upgrade")
            time.sleep(2)
    after = digests(engine, names, most)
    engine.dispose()
    with contextlib.closing(Server(settings, anew=True, variables=of_code(TODAY))) as server:
        server.wait()
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
        answer = httpx.post(f"{server.url}/predict", json=REQUEST)
    statuses = [one.status for one in load.replies]
    return {
        "predictions": before["predictions"][0],
        "upgrade seconds": round(seconds, 1),
        "upgrade MB": round(memory / 1e6),
        "replies meanwhile": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "longest reply": round(max(one.seconds for one in load.replies), 2),
        "tables that differ": [name for name in before if before[name] != after[name]],
        "answers afterwards": answer.status_code,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--commit", default=OLDER, help="the code of the older zap")
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL of its own; else SQLite")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'zap.sqlite'}"
        if options.postgresql:
            own = stack.enter_context(contextlib.closing(OwnPostgresql(max_wal_size="1GB").make()))
            assert own.start()
            url = own.url
        found = upgraded(folder, url, options.commit, options.predictions)
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["tables that differ"] or found["answers afterwards"] != 200))


if __name__ == "__main__":
    main()
