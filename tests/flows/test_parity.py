"""Parity of live quality: what was tested is asked and reported day by day over HTTP, and the scores are equal."""

from datetime import UTC

import pytest
from conftest import client_of
from followed import Following
from replayed import Replay
from simulations.quality import COMPARED, differences
from stopped import stop_clock

from zap.db.engine import create_engine
from zap.db.history import recent_sessions
from zap.db.monitoring.quality_days import apply as add_to_quality


@pytest.fixture
def clock(monkeypatch):
    """Return a function that stops the wall clock of the app at a moment; and let answers know reports at once."""
    stopped = {}
    stop_clock(monkeypatch, lambda: stopped["at"])
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 0.0)
    return lambda moment: stopped.update(at=moment.replace(tzinfo=UTC))


def test_a_replay_over_http_has_the_scores_of_the_training(trained_sqlite, clock):
    settings = trained_sqlite.model_copy(update={"follow": False, "timezone": "UTC"})
    engine = create_engine(settings.database_url)
    replay = Replay(engine)
    stored, again = replay.stored_evaluation, replay.evaluation(replay.asked | True)
    assert [again[name] for name in COMPARED] == [stored[name] for name in COMPARED]
    clock(replay.begin)
    replay.forget()
    following = Following(engine, settings.wall_time, settings.horizon, sums=[add_to_quality])
    with client_of(settings) as client:
        replay.play(client, clock, at_midnight=following.look)
        found = replay.asked_quality(client)
    following.close()

    assert list(replay.different_rows()) == []
    assert found["answers"]["matched"] == found["answers"]["answers"] == len(replay.answers) > 100
    expected = replay.evaluation()
    pairs = differences({name: found["scores"][name] for name in COMPARED}, {name: expected[name] for name in COMPARED})
    sizes = dict(pairs) | {"weighted_f1": abs(found["scores"]["weighted_f1"] - expected["test_f1_score"])}
    worst = max(sizes, key=sizes.__getitem__)
    print(
        f"{len(sizes)} figures on {len(replay.answers)} sessions, {replay.left_out} left out; {worst}: {sizes[worst]}"
    )
    assert sizes[worst] <= 1e-9
    engine.dispose()
