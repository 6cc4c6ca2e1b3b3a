"""Let a service answer day after day with ZAP_KEEP_REQUESTS_DAYS, and print how large its database gets.

    python tests/simulations/retention.py
    python tests/simulations/retention.py --answers 10000 --rounds 0 --postgresql postgresql+psycopg://USER@HOST/NAME

Each day logs answers with the sessions after them, follows them, and removes what is too old, as the follower does.
After the last day, half of the days are removed too, so that a SQLite file becomes smaller. At the end, a server
removes all that is left while requests come. The last lines compare the times of these requests with the times at a
server that removes nothing, both on copies of the database (only on SQLite). Figures are of this machine and this run;
what can be compared elsewhere are the bytes and the ratios. On PostgreSQL the database has to be empty.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import UTC, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import following
import httpx
from harness.fixture import make_fixture, run_zap
from servers import Server
from sqlalchemy import text

from zap.db.engine import create_engine
from zap.db.monitoring.removals import lock_follower
from zap.flows.looking_back import LookingBack
from zap.flows.retention import Retention
from zap.settings import Settings

# How long requests come, in seconds, in each round of both servers.
_SECONDS = 6
_REQUEST = {"state_of_charge_start": 41, "distance_driven_km": 130, "temperature_c": 12, "battery_capacity_kwh": 64,
            "vehicle_age_years": 3, "user_type": "Commuter", "user_id": "D00001"}  # fmt: skip


def bytes_of(engine):
    """Return the size of the database without its write-ahead log."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            return connection.scalar(text("SELECT pg_database_size(current_database())"))
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return Path(engine.url.database).stat().st_size


def live(engine, url, days, answers, keep):
    """Live the days. Print for each how large the database is, and how many requests it has."""
    settings = Settings(database_url=url, timezone="UTC")
    following.ANSWERS_OF_A_DAY, begin, empty = answers, following.BEGIN, bytes_of(engine)
    for day in range(days):
        following.BEGIN = begin + timedelta(days=day)
        begun = time.perf_counter()
        following.make_backlog(url, answers, seed=day)
        made = time.perf_counter()
        looking = LookingBack(engine, settings)
        looking.following.look()
        looking.close()
        followed = time.perf_counter()
        if engine.dialect.name == "postgresql" and day == 0:
            settle(engine)
        said = remove(engine, settings, keep, empty)
        print(f"day {day + 1}: logged in {made - begun:.0f} s, followed in {followed - made:.0f} s; {said}", flush=True)
    print(f"then {keep // 2} days are kept: {remove(engine, settings, keep // 2, empty)}", flush=True)


def remove(engine, settings, keep, empty):
    """Remove what is too old at the end of the present day, return free pages, and say what the database is then."""
    now = (following.BEGIN + timedelta(days=1)).replace(tzinfo=UTC)
    retention = Retention(engine, settings, lock_follower)
    before, removed, longest, begun = bytes_of(engine), 0, 0.0, time.perf_counter()
    last = begun
    for portion in retention.requests(keep, now):
        removed += portion.removed.get("inference_inputs", 0)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    seconds, begun, step = time.perf_counter() - begun, time.perf_counter(), 0.0
    returned, last = 0, begun
    for pages in retention.free_pages():
        returned += pages
        step, last = max(step, time.perf_counter() - last), time.perf_counter()
    shrunk, size = time.perf_counter() - begun, bytes_of(engine)
    with engine.connect() as connection:
        left = connection.scalar(text("SELECT count(*) FROM inference_inputs"))
    said = (
        f"{before / 1e6:,.0f} MB, then {size / 1e6:,.0f} MB, {left:,} requests, {(size - empty) / left:,.0f} bytes each"
    )
    if removed:
        said += f"; removed {removed:,}, {removed / seconds:,.0f}/s, longest portion {longest * 1000:.0f} ms"
    if returned:
        said += f"; returned {returned:,} pages, {returned / shrunk:,.0f}/s, longest step {step * 1000:.0f} ms"
    return said


def settle(engine):
    """Forget the ids that are missing on PostgreSQL, as ten minutes later."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE follower SET missing = NULL"))


def times_beside(folder, name, **environment):
    """Return the times of requests at a server on a copy of the database, and how many requests it has removed."""
    place = folder / name
    place.mkdir()
    shutil.copy(folder / "zap.sqlite", place / "zap.sqlite")
    shutil.copytree(folder / "models", place / "models")
    settings = Settings(
        database_url=f"sqlite:///{place / 'zap.sqlite'}", models_dir=place / "models", timezone="UTC", **environment
    )
    engine = create_engine(settings.database_url)
    count = text("SELECT count(*) FROM inference_inputs")
    with engine.connect() as connection:
        before = connection.scalar(count)
    server, times = Server(settings).wait(120), []
    with httpx.Client(base_url=server.url) as client:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            begun = time.perf_counter()
            client.post("/predict", json=_REQUEST).raise_for_status()
            times.append(time.perf_counter() - begun)
            # Some requests a second, so that the follower has its turn too.
            time.sleep(0.01)
    server.close()
    with engine.connect() as connection:
        gone = before + len(times) - connection.scalar(count)
    engine.dispose()
    shutil.rmtree(place)
    return times, gone


def at(times, share):
    return sorted(times)[int(share * len(times))] * 1000


def main():
    """Live the days, and compare the times of requests."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--answers", type=int, default=100_000, help="a day")
    options.add_argument("--days", type=int, default=20)
    options.add_argument("--keep", type=int, default=14, help="ZAP_KEEP_REQUESTS_DAYS")
    options.add_argument("--rounds", type=int, default=3, help="of requests beside a removal, only on SQLite")
    options.add_argument("--postgresql", metavar="URL")
    chosen = options.parse_args()
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix=".retention-", dir=Path.cwd()) as name:
        folder = Path(name)
        url = chosen.postgresql or f"sqlite:///{folder}/zap.sqlite"
        if chosen.postgresql:
            for command in (["sample-history", "--drivers", "200"], ["train"]):
                run_zap(folder, *command, "--json", ZAP_DATABASE_URL=url)
        else:
            make_fixture(folder, 200, lambda _: None)
        engine = create_engine(url)
        live(engine, url, chosen.days, chosen.answers, chosen.keep)
        engine.dispose()
        if chosen.postgresql or not chosen.rounds:
            return
        found = {"keeps": [], "removes": []}
        for number in range(chosen.rounds):
            for kind, days in (("keeps", None), ("removes", 14)):
                times, gone = times_beside(folder, f"{kind}-{number}", keep_requests_days=days)
                found[kind].append((at(times, 0.5), at(times, 0.95)))
                print(f"a server that {kind}: {len(times):,} requests, p50 {found[kind][-1][0]:.1f} ms,"
                      f" p95 {found[kind][-1][1]:.1f} ms; {gone:,} were removed meanwhile", flush=True)  # fmt: skip
        for place, share in enumerate(("p50", "p95")):
            middle = {kind: sorted(one[place] for one in rounds)[chosen.rounds // 2] for kind, rounds in found.items()}
            print(f"{share} beside a removal, against a server that keeps: {middle['removes'] / middle['keeps']:.2f}")


if __name__ == "__main__":
    main()
