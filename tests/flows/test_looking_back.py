"""Looking back: what people hear while the follower is behind, and that long parts keep the lease and end early."""

from datetime import UTC, datetime, timedelta

import pytest
from followed import HOUR, NOON, log_answers, outcomes, row_of, session
from histories import add_sessions
from sqlalchemy import text

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import list_alarms
from zap.db.monitoring.data_quality_days import read_days
from zap.db.monitoring.log_portion import MOST_ANSWERS, MOST_IN_QUIET
from zap.db.monitoring.outcome_arrivals import arrived_delays
from zap.flows import alarms, looking_back
from zap.flows.looking_back import LookingBack
from zap.settings import Settings


@pytest.fixture
def looking(engine, monkeypatch):
    """Return what looks back, with alarms at once."""
    monkeypatch.setattr(looking_back, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(alarms, "_BEHIND_LASTS", timedelta(0))
    url = engine.url.render_as_string(hide_password=False)
    looking = LookingBack(engine, Settings(database_url=url, timezone="UTC"))
    yield looking
    looking.close()


def behind(engine):
    """Return for each alarm of a follower that is behind whether it stands."""
    return [one["until"] is None for one in list_alarms(engine, 9, standing=False) if one["kind"] == "follower_behind"]


def test_people_hear_that_the_follower_is_behind_while_it_works_off_a_backlog(engine, looking):
    n = MOST_ANSWERS[engine.dialect.name] + MOST_IN_QUIET
    log_answers(engine, *(row_of(number, after=number / 1000) for number in range(1, n)))
    meanwhile = []

    def stop():
        meanwhile.append(behind(engine))
        return False

    assert looking.look(stop)

    assert [True] in meanwhile
    assert behind(engine) == [False]
    assert len(outcomes(engine)) == n - 1


def test_people_hear_that_the_follower_cannot_go_on(engine, looking):
    log_answers(engine, row_of(1, model_version=None))
    looking.look()
    log_answers(engine, row_of(2), row_of(3))
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE predictions SET probabilities = '[1]' WHERE prediction_id = 2"))

    with pytest.raises(ValueError, match="Expected"):
        looking.look()

    assert behind(engine) == [True]


def test_the_arrival_of_an_outcome_is_counted_and_is_no_data_quality(engine, looking):
    today = datetime.now(UTC)
    start = (today.replace(tzinfo=None) - NOON) / HOUR - 5
    log_answers(engine, row_of(1, after=start, model_version=None))
    looking.look()
    add_sessions(engine, session(7, start))
    looking.look()

    with engine.connect() as connection:
        (delays,) = arrived_delays(connection, today - timedelta(days=1)).values()
    assert delays == {6: 1}
    assert not [one for one in read_days(engine, today.date(), datetime.now(UTC).date()) if one.subject == "outcomes"]
