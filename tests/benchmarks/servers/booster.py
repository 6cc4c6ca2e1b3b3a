"""LightGBM alone on the ready matrix: `booster.py MODEL ROWS.json`; for each line on standard input one prediction.

It prints the seconds of each.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import joblib
import pandas as pd


def main():
    model = joblib.load(sys.argv[1])
    with open(sys.argv[2]) as file:  # noqa: PTH123 - a name from the command line
        frame = pd.DataFrame(json.load(file)["inputs"])
    frame["charging_start_time"] = pd.Timestamp(datetime.now(UTC).replace(tzinfo=None, microsecond=0))
    matrix = model.matrix(frame)
    # As many threads as this process has cores.
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for _ in sys.stdin:
        begin = time.perf_counter()
        model.booster_.predict(matrix, num_threads=threads)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
