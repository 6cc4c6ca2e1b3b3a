"""Replay the test sessions of a real history over HTTP, and compare live quality with the evaluation of the training.

`python tests/simulations/parity.py FILE` imports a file of sessions with ends, trains a version on the whole history,
and then takes out again everything that nobody could have reported when the first driver of the test part asks. Then
each driver asks ZAP_ASKED_BEFORE_MINUTES before each session, and reports its start, and later its end, to `zap serve`.
The wall clock of all processes of zap is stopped at each of these moments. `zap follow --once` runs at the end of each
day. At the end, each figure of `GET /quality` is compared with the training's evaluation on these sessions.

Answers use a report within two seconds, so the replay waits before questions that follow reports. With `--wait 0.8`
the 1,234 sessions of Dundee took 17 minutes; an answer with an older present would be counted as another row.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from replayed import Replay
from simulations.quality import COMPARED, differences
from simulations.stopped_clock import Clock

from zap.db.engine import create_engine

PORT = 8918


def compared(found, evaluation):
    """Return the size of each difference between live quality and an evaluation, by the name of the figure."""
    live = {name: found[name] for name in COMPARED} | {"weighted_f1": found["weighted_f1"]}
    expected = {name: evaluation[name] for name in COMPARED} | {"weighted_f1": evaluation["test_f1_score"]}
    return dict(differences(live, expected))


def told(replay, found):
    """Print what was compared, and the largest differences."""
    answers = found["answers"]
    print(f"{len(replay.answers):,} sessions were asked about; {answers['matched']:,} of {answers['answers']:,} answers"
          f" are matched; {replay.left_out} sessions were left out, because a session of their driver started or ended"
          " between the question and the start")  # fmt: skip
    different = dict(replay.different_rows())
    print(f"{len(different):,} answers scored another row than the training")
    for name, times in Counter(name for names in different.values() for name in names).most_common(5):
        print(f"  {times:,} times another {name}")
    whole, stored = replay.evaluation(replay.asked | True), replay.stored_evaluation
    print("the evaluation of all test sessions, computed again, is the stored one:",
          all(whole[name] == stored[name] for name in COMPARED))  # fmt: skip
    evaluation = replay.evaluation()
    sizes = compared(found["scores"], evaluation)
    print(f"{len(sizes):,} figures; the largest differences:")
    for name in sorted(sizes, key=sizes.__getitem__)[:-6:-1]:
        print(f"  {sizes[name]:.2e}  {name}")
    print("| figure | live | training on these sessions | training on all test sessions |\n|---|---|---|---|")
    for name, of_training in (("weighted_f1", "test_f1_score"), *((one, one) for one in ("macro_f1", "accuracy"))):
        print(f"| {name} | {found['scores'][name]:.12f} | {evaluation[of_training]:.12f} | {stored[of_training]:.6f} |")
    for name in ("log_loss", *(f"baselines.{one}.log_loss" for one in stored["baselines"])):
        print(
            f"| {name} | {_at(found['scores'], name):.12f} | {_at(evaluation, name):.12f} | {_at(stored, name):.6f} |"
        )


def _at(document, path):
    for key in path.split("."):
        document = document[key]
    return document


def main():
    """Run the replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a file of sessions with ends")
    parser.add_argument("--sessions", type=int, help="at most this many test sessions; default: all")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds between reports and the next question")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # The clock moves in leaps, which zap would warn about.
        clock = Clock(Path(name), PORT, ZAP_LOG_LEVEL="ERROR")
        clock.set(time_of_import := _long_after(options.file))
        clock.run("db", "upgrade")
        clock.run("import-history", str(options.file), "--json")
        clock.run("train", "--json")
        engine = create_engine(clock.database_url)
        replay = Replay(engine, options.sessions)
        replay.forget()
        clock.set(replay.begin)
        begun = time.monotonic()
        with clock.serving() as client:
            replay.play(
                client,
                clock.set,
                settle=lambda: time.sleep(options.wait),
                at_midnight=lambda: clock.run("follow", "--once"),
            )
            found = replay.asked_quality(client)
        print(f"replayed in {time.monotonic() - begun:,.0f} s; trained at {time_of_import:%Y-%m-%d}")
        told(replay, found)
        engine.dispose()


def _long_after(file):
    """Return a moment after all sessions of a file."""
    import pandas as pd  # noqa: PLC0415 - only here

    ends = pd.read_csv(file, usecols=["charging_end_time"], parse_dates=["charging_end_time"])
    return ends["charging_end_time"].max().to_pydatetime()


if __name__ == "__main__":
    main()
