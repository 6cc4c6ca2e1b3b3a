"""Metric rows: what several processes count in one memory, within bounds, also if one of them dies at any moment."""

import multiprocessing
import os
import threading
import time

from zap.monitoring.metric_rows import MetricRows, sums
from zap.monitoring.own_metrics import OTHER, PREDICTIONS, REQUESTS, Number, OwnMetrics


def test_processes_count_in_rows_of_their_own_and_the_next_one_goes_on():
    rows = MetricRows(3)
    fork = multiprocessing.get_context("fork")

    def count(place, n):
        own = OwnMetrics(rows.row(place), os.getpid())
        own.began()
        for _ in range(n):
            own.replied("GET", "/a", 200, 3_000_000)
            own.committed(1_000_000, [(7, "Level 2"), (7, "Level 1")])
        # As a process that is killed: nothing is closed.
        os._exit(9)

    for round_ in (1, 2):
        processes = [fork.Process(target=count, args=(place, 1000)) for place in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 9
        found = sums([rows.row(place) for place in range(3)])
        buckets = found[REQUESTS, "GET", "/a", "200"]
        # 3 ms are in the bucket up to 5 ms, the fourth; the sum of the times is behind all buckets.
        assert [place for place, n in enumerate(buckets) if n] == [3, 15]
        assert (buckets[3], buckets[-1]) == (3000 * round_, 3000 * round_ * 3_000_000)
        assert found[PREDICTIONS, "7", "Level 2"] == found[PREDICTIONS, "7", "Level 1"] == [3000 * round_]
        # What is not a count is not taken over.
        assert [rows.row(place).numbers[Number.IN_PROGRESS] for place in range(3)] == [1, 1, 1]


def test_a_spawned_process_gets_the_memory():
    rows = MetricRows(2, forks=False)
    process = multiprocessing.get_context("spawn").Process(target=_count_there, args=(rows,))
    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert sums([rows.row(0), rows.row(1)])[REQUESTS, "GET", "/a", "200"][0] == 1


def _count_there(rows):
    OwnMetrics(rows.row(1), 1).replied("GET", "/a", 200, 1)


def test_a_row_has_a_bound_and_everything_beyond_is_counted_as_other():
    rows = MetricRows()
    own = OwnMetrics(rows.row(0), 1)
    for n in range(3000):
        own.replied(f"M{n}", f"/{n}", 200, 1)
        own.replied("GET", f"/{'x' * 300}{n}", 404, 1)
        own.committed(1, [(n, f"{'ї' * 300}{n}"), (n % 90, f"type {n}")])

    found = sums([rows.row(0)])
    assert sum(key[0] == REQUESTS for key in found) <= 1001 + 4
    assert sum(key[0] == PREDICTIONS for key in found) <= 1501
    assert len({key[1] for key in found if key[0] == PREDICTIONS}) <= 101
    assert sum(sum(cells[:-1]) for key, cells in found.items() if key[0] == REQUESTS) == 6000
    assert sum(sum(cells) for key, cells in found.items() if key[0] == PREDICTIONS) == 6000
    assert found[REQUESTS, OTHER, OTHER, OTHER][0] > 0
    assert all(len(label.encode()) <= 64 for key in found for label in key)

    # The next process knows all series, and the bounds are for the row.
    again = OwnMetrics(rows.row(0), 2)
    again.replied("GET", "/after", 200, 1)
    again.committed(1, [(5000, "a")])
    assert (REQUESTS, "GET", "/after", "200") not in sums([rows.row(0)])
    assert (PREDICTIONS, "5000", "a") not in sums([rows.row(0)])


def test_a_series_of_another_size_is_not_mixed_up():
    row = MetricRows().row(0)
    row.cells(("a",), 3)[0] = 1
    row.cells(("a",), 4)[0] = 5

    assert [(key, [*cells]) for key, cells in row.read()] == [(("a",), [1, 0, 0])]


def test_a_note_is_read_whole_while_it_is_written():
    rows = MetricRows()
    stops = threading.Event()

    def write():
        n = 0
        row = rows.row(0)
        while not stops.is_set():
            n += 1
            row.write_note({"n": [n] * (n % 500 + 1)})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        row = rows.row(0)
        notes = [note for note in (row.read_note() for _ in range(300)) if note is not None]
    finally:
        stops.set()
        writer.join()
    assert len(notes) > 100
    assert all(len(set(note.content["n"])) == 1 for note in notes)
    assert [note.seconds for note in notes] == sorted(note.seconds for note in notes)


def test_a_process_that_dies_while_it_writes_a_note_leaves_none():
    rows = MetricRows()
    row = rows.row(0)
    row.write_note({"n": 1})
    row._words[1] += 1

    assert row.read_note() is None
    row.write_note({"n": 2})
    assert row.read_note().content == {"n": 2}
    row.write_note({"n": "x" * 100_000})
    assert row.read_note().content == {"n": 2}


def test_threads_add_series_at_once():
    row = MetricRows().row(0)

    def add(start):
        for n in range(300):
            row.cells(("s", str((n + start) % 300)), 2)

    working = [threading.Thread(target=add, args=(start * 37,)) for start in range(8)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()

    keys = [key for key, _ in row.read()]
    assert sorted(keys) == sorted({("s", str(n)) for n in range(300)})


def test_a_request_pays_at_most_three_microseconds():
    own = OwnMetrics(MetricRows().row(0), 1)

    def seconds(n):
        before = time.process_time()
        for _ in range(n):
            own.began()
            own.replied("POST", "/predict", 200, 1_234_567)
            own.committed(900_000, [(7, "Level 2")])
            own.ended()
        return time.process_time() - before

    # The least of several times is the time without other programs.
    assert min(seconds(10_000) for _ in range(5)) / 10_000 < 3e-6
