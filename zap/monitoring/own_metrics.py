"""OwnMetrics: what one server process adds to its metrics while it answers, in well under a microsecond a request."""

from bisect import bisect_left
from collections.abc import Iterable
from enum import IntEnum

from zap.monitoring.metric_rows import Key, MetricRow

# The upper bounds of the buckets of times in nanoseconds: 0.5 ms to 10 s. One more bucket is for longer times.
BOUNDS = tuple(
    round(milliseconds * 1e6) for milliseconds in (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
)
# A histogram has a cell for each bucket, and one for the sum of the times.
_HISTOGRAM = len(BOUNDS) + 2
REQUESTS, PREDICTIONS, COMMITS, FAILED_COMMITS = "requests", "predictions", "commits", "failed_commits"
# What a label says for everything beyond the bounds, and the route of requests without one.
OTHER, NO_ROUTE = "other", "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The most series of each metric, and the most model versions. The row of a process has room for all of them.
_MOST_REQUESTS, _MOST_PREDICTIONS, _MOST_VERSIONS = 1_000, 1_500, 100
# Names of charger types and routes are cut to this many bytes.
_LONGEST_LABEL = 64
# These have a zero from the start, so that the first of them counts as an increase.
_ALWAYS_THERE = [("POST", "/predict", status) for status in ("200", "422", "500", "503")]


class Number(IntEnum):
    """The places of the numbers of a process beside its series."""

    PROCESS = 0
    IN_PROGRESS = 1
    LOG_WAITING = 2
    MODEL_VERSION = 3
    POOL_IN_USE = 4
    POOL_OPEN = 5
    LOOP_DELAY = 6
    # For each generation: collections, collected objects, objects that cannot be collected.
    COLLECTIONS = 8


class OwnMetrics:
    """Count for one process. The event loop counts requests, and the writer of the log counts commits and answers.

    Args:
        row: the row of this process, perhaps with the counts of the process before it.
        process: the number of this process.
    """

    def __init__(self, row: MetricRow, process: int) -> None:
        self._row = row
        self.numbers = row.numbers
        # The process before it has died, and its numbers with it. Its counts stay.
        self.numbers[:] = memoryview(bytes(self.numbers.nbytes)).cast("q")
        self.numbers[Number.PROCESS] = process
        self._versions = {key[1] for key in row.keys if key[0] == PREDICTIONS}
        self._n_requests = sum(key[0] == REQUESTS for key in row.keys)
        self._n_predictions = sum(key[0] == PREDICTIONS for key in row.keys)
        self._other_requests = row.cells((REQUESTS, OTHER, OTHER, OTHER), _HISTOGRAM)
        self._other_predictions = row.cells((PREDICTIONS, OTHER, OTHER), 1)
        self._requests: dict[tuple[str, str | None, int], memoryview] = {}
        self._predictions: dict[tuple[int, str], memoryview] = {}
        self._commits = row.cells((COMMITS,), _HISTOGRAM)
        self._failed_commits = row.cells((FAILED_COMMITS,), 1)
        for method, route, status in _ALWAYS_THERE:
            self.replied(method, route, int(status), None)

    def began(self) -> None:
        """Count a request that has begun."""
        self.numbers[1] += 1

    def ended(self) -> None:
        """Count the end of a request, answered or not."""
        self.numbers[1] -= 1

    def replied(self, method: str, route: str | None, status: int, nanoseconds: int | None) -> None:
        """Count a reply.

        Args:
            method: the method of the request as it was sent.
            route: the template of the route; None without one.
            status: the HTTP status.
            nanoseconds: the time until the reply began; None to count nothing, and only make the series.
        """
        cells = self._requests.get((method, route, status))
        if cells is None:
            cells = self._requests[method, route, status] = self._request_cells(method, route, status)
            if len(self._requests) > 2 * _MOST_REQUESTS:
                # A client may send any number of methods.
                self._requests.clear()
        if nanoseconds is not None:
            cells[bisect_left(BOUNDS, nanoseconds)] += 1
            cells[-1] += nanoseconds

    def _request_cells(self, method: str, route: str | None, status: int) -> memoryview:
        known = method if method in METHODS else OTHER
        key = REQUESTS, known, _label(route or NO_ROUTE), str(int(status))
        if key not in self._row.keys:
            if self._n_requests >= _MOST_REQUESTS:
                return self._other_requests
            self._n_requests += 1
        return self._row.cells(key, _HISTOGRAM)

    def committed(self, nanoseconds: int, answers: Iterable[tuple[int, str]]) -> None:
        """Count a commit of one request or batch.

        Args:
            nanoseconds: the time that it waited for its commit.
            answers: for each row, the model version and the predicted class.
        """
        commits = self._commits
        commits[bisect_left(BOUNDS, nanoseconds)] += 1
        commits[-1] += nanoseconds
        known = self._predictions
        for answer in answers:
            (known.get(answer) or self._prediction_cells(answer))[0] += 1

    def not_committed(self) -> None:
        """Count a request or batch that could not be committed."""
        self._failed_commits[0] += 1

    def _prediction_cells(self, answer: tuple[int, str]) -> memoryview:
        version, name = str(answer[0]), _label(answer[1])
        key: Key = (PREDICTIONS, version, name)
        cells = self._other_predictions
        if key in self._row.keys:
            cells = self._row.cells(key, 1)
        elif self._n_predictions < _MOST_PREDICTIONS and (
            version in self._versions or len(self._versions) < _MOST_VERSIONS
        ):
            self._versions.add(version)
            self._n_predictions += 1
            cells = self._row.cells(key, 1)
        if len(self._predictions) > 2 * _MOST_PREDICTIONS:
            self._predictions.clear()
        self._predictions[answer] = cells
        return cells


def _label(text: str) -> str:
    """Return a text that can be a label: cut, and without the character between the parts of a name."""
    return text.replace("\0", "").encode()[:_LONGEST_LABEL].decode(errors="ignore")
