"""Run a month of a service that keeps up by itself, on a real history and a fast clock, and print what it did.

`python tests/simulations/keeping_up.py FILE --days 30` imports the sessions before the last days, trains, and serves
with ZAP_RETRAIN_EVERY. Then each driver asks 15 minutes before each session of these days and reports the session when
it ends, over HTTP. The wall clock of all processes of zap is stopped at the moment of each event; the monotonic clock
goes on. The follower runs as `zap follow --once` at the end of each day. At the end
the script prints the alarms, trainings, trials and promotions in the order of time, and the live quality.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import pandas as pd
from simulations.stopped_clock import Clock

PORT = 8917
ASKED_BEFORE = timedelta(minutes=15)


def events(sessions):
    """Return the moments at which drivers ask and report, in the order of time: moment, kind, session."""
    rows = list(sessions.itertuples())
    found = [(one.charging_start_time.to_pydatetime() - ASKED_BEFORE, "ask", one) for one in rows]
    found += [(one.charging_end_time.to_pydatetime(), "report", one) for one in rows]
    return sorted(found, key=lambda event: (event[0], event[1], event[2].session_id))


def play(clock, client, sessions, end):
    """Let the drivers ask and report until the end, and follow at the end of each day. Return the refusals."""
    asked, refused = {}, []
    day = None
    for moment, kind, one in events(sessions):
        if moment >= end:
            break
        if moment.date() != day:
            if day is not None:
                follow(clock, day)
            day = moment.date()
        clock.set(moment)
        start = one.charging_start_time.isoformat()
        about = {"user_id": one.user_id, "vehicle_model": one.vehicle_model, "charging_start_time": start}
        if kind == "ask":
            reply = client.post("/predict", json={name: value for name, value in about.items() if pd.notna(value)})
            asked[one.session_id] = reply.json().get("prediction_id")
        else:
            report = {
                "session_id": int(one.session_id),
                "user_id": one.user_id,
                "charger_type": one.charger_type,
                "charging_start_time": start,
                "charging_end_time": one.charging_end_time.isoformat(),
            }
            if asked.get(one.session_id) is not None:
                report["prediction_id"] = asked[one.session_id]
            reply = client.post("/charging-sessions", json=report)
        if reply.status_code != 200:
            refused.append(f"{moment} {kind}: {reply.status_code} {reply.text[:200]}")
    follow(clock, day)
    return refused


def follow(clock, day):
    """Follow at the end of a day, after the training that may be due."""
    clock.set(datetime.combine(day, datetime.max.time()).replace(microsecond=0))
    while any(
        run["status"] == "running"
        for run in httpx.get(f"http://127.0.0.1:{PORT}/training-runs").json()["training_runs"]
    ):
        time.sleep(1)
    clock.run("follow", "--once")


def told(client):
    """Print what zap did, in the order of time."""
    lines = []
    for alarm in client.get("/alarms", params={"all": "true"}).json()["alarms"]:
        lines.append((alarm["since"], f"alarm {alarm['kind']} {alarm['subject']}: {alarm['message']}"))
        if alarm["until"]:
            lines.append((alarm["until"], f"resolved: {alarm['kind']} {alarm['subject']}"))
    runs = client.get("/training-runs").json()["training_runs"]
    lines += [(one["started_at"], f"training run {one['run_id']} {one['status']}: {one['options']}") for one in runs]
    for trial in client.get("/trials").json()["trials"]:
        version = trial["model_version"]
        lines.append((trial["started_at"], f"trial {trial['trial_id']} of version {version} begins"))
        if trial["ended_at"]:
            lines.append((trial["ended_at"], f"trial {trial['trial_id']} of version {version}: {trial['status']}"))
    promotions = client.get("/models/history").json()["promotions"]
    lines += [(one["promoted_at"], f"version {one['to_version']} serves: {one['why']}") for one in promotions]
    for at, line in sorted(lines):
        print(at[:16], line)


def main():
    """Run the month."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a file of sessions with ends")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--retrain", default="7")
    parser.add_argument("--promote", default="trial")
    options = parser.parse_args()
    sessions = pd.read_csv(options.file, parse_dates=["charging_start_time", "charging_end_time"])
    end = sessions["charging_start_time"].max().to_pydatetime().replace(hour=0, minute=0, second=0)
    begin = end - timedelta(days=options.days)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = sessions[sessions["charging_start_time"] < begin]
        before.to_csv(folder / "before.csv", index=False)
        clock = Clock(folder, PORT, ZAP_RETRAIN_EVERY=options.retrain, ZAP_RETRAIN_PROMOTE=options.promote)
        clock.set(begin)
        clock.run("db", "upgrade")
        clock.run("import-history", str(folder / "before.csv"), "--json")
        clock.run("train", "--json")
        with clock.serving() as client:
            later = sessions[sessions["charging_start_time"] >= begin]
            refused = play(clock, client, later, end)
            told(client)
            print(f"{len(later):,} sessions; {len(refused)} requests were refused", *refused[:5], sep="\n")
            print(json.dumps(client.get("/quality").json(), indent=1)[:6000])


if __name__ == "__main__":
    main()
