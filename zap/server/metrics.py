"""Metrics: the metrics of all processes of this server and of its database, as one process shows them."""

import gc
import os
import platform
import time
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

from litestar.datastructures import State

from zap import __version__
from zap.errors import ZapError
from zap.monitoring.metric_families import FAMILIES, Sample, Samples
from zap.monitoring.metric_rows import Key, MetricRow, MetricRows, sums
from zap.monitoring.own_metrics import BOUNDS, COMMITS, FAILED_COMMITS, PREDICTIONS, REQUESTS, Number, OwnMetrics
from zap.server.process_figures import process_figures

# The pause between two looks at what is not counted when it happens.
LOOK_SECONDS = 1.0
_LABELS = {REQUESTS: ("method", "route", "status"), PREDICTIONS: ("model_version", "predicted_class")}
_HISTOGRAMS = {REQUESTS: "zap_http_request_duration_seconds", COMMITS: "zap_log_commit_seconds"}
_COUNTERS = {PREDICTIONS: "zap_predictions", FAILED_COMMITS: "zap_log_failures"}
_UPPER = [repr(bound / 1e9) for bound in BOUNDS] + ["+Inf"]
_OF_COLLECTIONS = ("python_gc_collections", "python_gc_objects_collected", "python_gc_objects_uncollectable")


class Metrics:
    """Show the metrics of all processes of a server. Each process counts in `own`.

    Args:
        rows: the rows of all processes.
        place: which row is of this process.
    """

    def __init__(self, rows: MetricRows, place: int = 0) -> None:
        self.rows: Sequence[MetricRow] = [rows.row(one) for one in range(rows.n)]
        self.row = self.rows[place]
        self.own = OwnMetrics(self.row, os.getpid())
        self._due: float | None = None

    def look(self, state: State) -> None:
        """Note what is not counted when it happens. The event loop calls this each second.

        Args:
            state: the parts of this process.
        """
        now, numbers = time.monotonic(), self.own.numbers
        numbers[Number.LOOP_DELAY] = 0 if self._due is None else max(0, round((now - self._due) * 1e9))
        self._due = now + LOOK_SECONDS
        numbers[Number.LOG_WAITING] = state.prediction_log.waiting
        try:
            numbers[Number.MODEL_VERSION] = state.production.predictor.model_version
        except ZapError:
            numbers[Number.MODEL_VERSION] = 0
        pool = state.engine.pool
        numbers[Number.POOL_IN_USE] = pool.checkedout()
        numbers[Number.POOL_OPEN] = pool.checkedout() + pool.checkedin()
        place = int(Number.COLLECTIONS)
        for generation in gc.get_stats():
            numbers[place : place + 3] = _words(
                generation["collections"], generation["collected"], generation["uncollectable"]
            )
            place += 3

    def samples(self, of_database: Samples) -> Samples:
        """Return the samples of all metrics, in the order of FAMILIES. A metric without a value has no samples.

        Args:
            of_database: the metrics that are in the database.
        """
        found: Samples = {name: [] for name in FAMILIES}
        found["zap_build"].append(Sample(_versions(), 1, "_info"))
        for key, cells in sorted(sums(self.rows).items()):
            _add_series(found, key, cells)
        numbers = [row.numbers for row in self.rows]
        for name, number in (
            ("zap_http_requests_in_progress", Number.IN_PROGRESS),
            ("zap_log_waiting", Number.LOG_WAITING),
        ):
            found[name].append(Sample({}, max(0, sum(one[number] for one in numbers))))
        running = 0
        for place, one in enumerate(numbers, start=1):
            if process := one[Number.PROCESS]:
                running += _add_process(found, {"worker": str(place)}, one, process_figures(process))
        found["zap_workers"].append(Sample({}, running or 1))
        return found | of_database


def _add_series(found: Samples, key: Key, cells: Sequence[int]) -> None:
    labels = dict(zip(_LABELS.get(key[0], ()), key[1:], strict=False))
    if name := _COUNTERS.get(key[0]):
        found[name].append(Sample(labels, cells[0], "_total"))
    elif name := _HISTOGRAMS.get(key[0]):
        *buckets, nanoseconds = cells
        # Each bucket of a histogram counts the times below its bound, also those of the buckets before it.
        counts = list(accumulate(buckets))
        samples = found[name]
        samples += [
            Sample({**labels, "le": upper}, count, "_bucket") for upper, count in zip(_UPPER, counts, strict=True)
        ]
        samples += [Sample(labels, counts[-1], "_count"), Sample(labels, nanoseconds / 1e9, "_sum")]


def _add_process(found: Samples, labels: dict[str, str], numbers: memoryview, figures: dict[str, float]) -> bool:
    """Add the samples of one process, and return whether it is running."""
    for name, value in figures.items():
        suffix = "_total" if FAMILIES[name].kind == "counter" else ""
        found[name].append(Sample(labels, value, suffix))
    if not figures and numbers[Number.PROCESS] != os.getpid():
        return False
    if serving := numbers[Number.MODEL_VERSION]:
        found["zap_serving_model_version"].append(Sample(labels, serving))
    found["zap_event_loop_delay_seconds"].append(Sample(labels, numbers[Number.LOOP_DELAY] / 1e9))
    for state, number in (("in_use", Number.POOL_IN_USE), ("open", Number.POOL_OPEN)):
        found["zap_database_pool_connections"].append(Sample({**labels, "state": state}, numbers[number]))
    for name, generation, count in _collections(numbers):
        found[name].append(Sample({**labels, "generation": generation}, count, "_total"))
    return True


def _collections(numbers: memoryview) -> Iterator[tuple[str, str, int]]:
    for generation in range(3):
        for place, name in enumerate(_OF_COLLECTIONS):
            yield name, str(generation), numbers[Number.COLLECTIONS + 3 * generation + place]


def _words(*numbers: int) -> memoryview:
    words = memoryview(bytearray(8 * len(numbers))).cast("q")
    for place, number in enumerate(numbers):
        words[place] = number
    return words


@cache
def _versions() -> dict[str, str]:
    try:
        lightgbm = version("lightgbm")
    except PackageNotFoundError:
        lightgbm = ""
    return {"version": __version__, "python": platform.python_version(), "lightgbm": lightgbm}
