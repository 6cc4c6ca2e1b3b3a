"""The reports of monitors are read from their states once, and again when a state was stored anew."""

from zap.db.engine import write_transaction
from zap.db.monitoring.monitor_states import Remembered, store_monitor
from zap.flows import monitor_report
from zap.flows.monitor_report import read_harm


def store(engine, day):
    judged = {"day": day, "sums": {"promise 7": 2.0}, "drivers": {}, "means": {}, "limits": {}}
    watch = {"first_day": 1, "last_day": day, "sums": {}, "raised": None, "judged": [judged]}
    with write_transaction(engine) as connection:
        store_monitor(connection, 1, "harm", Remembered({"baseline": "prior"}, {"watch": watch, "days": []}))


def test_a_state_is_read_once_until_it_is_stored_anew(engine, monkeypatch):
    read = []
    whole = monitor_report.read_parts
    monkeypatch.setattr(monitor_report, "read_parts", lambda *told: read.append(told[1:3]) or whole(*told))
    assert read_harm(engine, 1) is None
    assert read == []

    store(engine, 20_000)
    assert [read_harm(engine, 1).day.isoformat() for _ in range(3)] == ["2024-10-04"] * 3
    assert read == [(1, "harm")]

    store(engine, 20_001)
    assert read_harm(engine, 1).day.isoformat() == "2024-10-05"
    assert read == [(1, "harm")] * 2
