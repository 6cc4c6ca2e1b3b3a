"""The follower: which rows of `outcomes` follow from the log and the history, whatever happens in which order."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from followed import (
    HOUR,
    NOON,
    by_definition,
    follow,
    follower,
    log_answers,
    log_training,
    name_answer,
    outcomes,
    row_of,
    session,
    statuses,
    wall_time,
)
from histories import add_sessions
from sqlalchemy import delete, insert, select, text, update

from zap.db.engine import write_transaction
from zap.db.monitoring.follower_marks import begin_anew
from zap.db.monitoring.outcome_arrivals import arrival_hours, arrived_delays, count_arrivals
from zap.db.monitoring_tables import DataQualityDay
from zap.db.tables import ChargingSession, InferenceInput, Prediction
from zap.flows import following as flows

SESSIONS = ChargingSession.__table__


def change(engine, statement):
    with write_transaction(engine) as connection:
        connection.execute(statement)


def test_it_works(engine):
    following = follower(engine)
    log_answers(engine, row_of(1), row_of(2, after=1), row_of(3, user_id=None), row_of(4, user_id="v"))
    following.look()
    before = statuses(engine)
    add_sessions(engine, session(7, 1.5))
    following.look()

    assert before == {1: ("waiting", None), 2: ("waiting", None), 3: ("no_driver", None), 4: ("waiting", None)}
    assert outcomes(engine)[2] == {
        "prediction_id": 2,
        "model_version": 1,
        "user_id": "u",
        "asked_at": NOON + HOUR,
        "kind": "live",
        "status": "matched",
        "session_id": 7,
        "actual_class": "A",
        "lag_seconds": 1800,
        "matched_by": "time",
        "superseded_by": None,
    }
    assert statuses(engine)[1] == ("superseded", 7)
    assert outcomes(engine)[1]["superseded_by"] == 2


def test_a_session_that_is_changed_or_removed_changes_its_outcomes(engine):
    following = follower(engine)
    log_answers(engine, row_of(1), row_of(2, user_id="v"))
    add_sessions(engine, session(7, 1), session(8, 2))
    seen = []
    of_7 = SESSIONS.c.session_id == 7
    for statement in (
        update(SESSIONS).where(of_7).values(charger_type="B"),
        update(SESSIONS).where(of_7).values(charging_start_time=NOON + 3 * HOUR),
        update(SESSIONS).where(of_7).values(charging_start_time=NOON, charger_type=None),
        update(SESSIONS).where(of_7).values(charger_type="B", user_id="v"),
        delete(SESSIONS).where(of_7),
    ):
        change(engine, statement)
        following.look()
        rows = outcomes(engine)
        assert rows == by_definition(engine)
        seen.append([(rows[number]["session_id"], rows[number]["actual_class"]) for number in (1, 2)])

    assert seen == [
        [(7, "B"), (None, None)],
        [(8, "A"), (None, None)],
        [(8, "A"), (None, None)],
        [(8, "A"), (7, "B")],
        [(8, "A"), (None, None)],
    ]


def test_old_sessions_that_are_added_after_the_answers_count(engine):
    years = -8 * 365 * 24
    log_answers(engine, row_of(1, after=years, requested_after=0))
    following = follower(engine)
    following.look()
    before = statuses(engine)
    add_sessions(engine, session(7, years + 2))
    following.look()

    assert before == {1: ("waiting", None)}
    assert (outcomes(engine)[1]["kind"], statuses(engine)) == ("backtest", {1: ("matched", 7)})


def test_an_answer_that_is_followed_after_its_session_is_matched(engine):
    add_sessions(engine, session(7, 1))
    log_answers(engine, row_of(1))

    follow(engine)

    assert statuses(engine) == {1: ("matched", 7)}


@pytest.mark.parametrize("first", ["answer", "name"])
def test_the_answer_that_a_report_names_counts(engine, first):
    following = follower(engine)
    log_answers(engine, row_of(1), row_of(2, after=1))
    add_sessions(engine, session(7, 2))
    if first == "answer":
        following.look()
    name_answer(engine, 7, 1)
    following.look()
    named = outcomes(engine)
    name_answer(engine, 7, None)
    following.look()

    assert (named[1]["status"], named[1]["matched_by"]) == ("matched", "report")
    assert (named[2]["status"], named[2]["superseded_by"]) == ("superseded", 1)
    assert statuses(engine) == {1: ("superseded", 7), 2: ("matched", 7)}


def test_a_driver_in_another_spelling_is_the_driver_of_the_sessions(engine):
    log_answers(engine, row_of(1, user_id=" 12.0 "))
    add_sessions(engine, session(7, 1, user_id="12"))

    follow(engine)

    assert (outcomes(engine)[1]["user_id"], statuses(engine)) == ("12", {1: ("matched", 7)})


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"user_id": 5}', '{"user_id": "n/a"}'])
def test_a_request_of_an_older_service_names_no_driver(engine, text):
    log_answers(engine, row_of(1, request={"input_data_json": text}, model_version=None, probabilities=None))

    follow(engine)

    assert statuses(engine) == {1: ("no_driver", None)}
    assert outcomes(engine)[1]["asked_at"] == NOON


def test_predictions_of_trainings_have_no_outcomes(engine):
    log_training(engine, *range(1, 1200))
    log_answers(engine, row_of(1200))
    log_training(engine, *range(1201, 1300))

    follow(engine)

    assert statuses(engine) == {1200: ("waiting", None)}


def test_only_one_follower_writes(engine):
    one, other = follower(engine), follower(engine)
    log_answers(engine, row_of(1))

    assert (one.look(), other.look()) == (True, False)
    one.close()
    log_answers(engine, row_of(2))
    assert (other.look(), one.look()) == (True, False)
    assert statuses(engine).keys() == {1, 2}


def test_a_follower_whose_heartbeat_stops_is_replaced_and_writes_nothing_more(engine):
    one, other = follower(engine), follower(engine)
    one.look()
    change(engine, text("UPDATE follower SET heartbeat_at = '2020-01-01T00:00:00.000000+00:00'"))
    log_answers(engine, row_of(1))

    assert other.look()
    log_answers(engine, row_of(2))
    assert not one.look()
    assert statuses(engine).keys() == {1}


def test_rows_that_commit_late_are_followed(empty_postgresql_url, at_head):
    engine, late_engine = at_head(empty_postgresql_url), at_head(empty_postgresql_url)
    following = follower(engine)
    late = late_engine.connect()
    transaction = late.begin()
    request_row, answer = row_of(2)
    late.execute(InferenceInput.__table__.insert(), request_row)
    late.execute(Prediction.__table__.insert(), answer)
    log_answers(engine, row_of(1), row_of(3))
    following.look()
    before = statuses(engine).keys()
    transaction.commit()
    late.close()
    following.look()

    assert before == {1, 3}
    assert statuses(engine).keys() == {1, 2, 3}


def test_removed_sessions_of_a_truncated_table_have_no_outcomes(engine):
    log_answers(engine, row_of(1), row_of(2, user_id="v"))
    add_sessions(engine, session(7, 1), session(8, 1, user_id="v"))
    following = follower(engine)
    following.look()
    truncated = (
        'TRUNCATE "ChargingSessions"' if engine.dialect.name == "postgresql" else 'DELETE FROM "ChargingSessions"'
    )
    change(engine, text(truncated))
    following.look()

    assert statuses(engine) == {1: ("waiting", None), 2: ("waiting", None)}


def test_without_its_triggers_all_answers_are_matched_again_but_not_all_the_time(sqlite_engine, monkeypatch):
    log_answers(sqlite_engine, row_of(1))
    following = follower(sqlite_engine)
    following.look()
    change(sqlite_engine, text("DROP TRIGGER zap_session_inserted"))
    add_sessions(sqlite_engine, session(7, 1))
    following.look()
    first = statuses(sqlite_engine)
    add_sessions(sqlite_engine, session(8, 0))
    following.look()
    soon = statuses(sqlite_engine)
    monkeypatch.setattr(flows, "_ALL_SECONDS", 0)
    following.look()

    assert (first, soon) == ({1: ("matched", 7)}, {1: ("matched", 7)})
    assert statuses(sqlite_engine) == {1: ("matched", 8)}


def test_a_transaction_that_fails_is_done_again(engine):
    told = []

    def keep(_connection, changes):
        told.append(len(changes))
        if len(told) == 2:
            raise ValueError("no")

    log_answers(engine, row_of(1))
    following = follower(engine, sums=[keep])
    following.look()
    log_answers(engine, row_of(2))
    with pytest.raises(ValueError, match="no"):
        following.look()
    before = statuses(engine).keys()
    following.look()

    assert (before, statuses(engine).keys(), told) == ({1}, {1, 2}, [1, 1, 1])


def test_what_only_servers_can_count_stays_when_the_follower_begins_anew(engine):
    counts = DataQualityDay.__table__
    row = {"day": NOON, "field": "", "found": "all", "count": 1}
    follow(engine)
    change(engine, insert(counts).values([row | {"subject": one} for one in ("requests", "sessions", "refused")]))
    with write_transaction(engine) as connection:
        begin_anew(connection)
    follow(engine)

    with engine.connect() as connection:
        assert set(connection.scalars(select(counts.c.subject))) == {"sessions", "refused"}


def test_any_text_names_a_driver(engine):
    drivers = ['a"b', "c\\d", "{e,f}", "NULL 1", "g\nh", "ä'ö", "i;j k"]
    log_answers(engine, *(row_of(number, user_id) for number, user_id in enumerate(drivers, start=1)))
    add_sessions(engine, *(session(number, 1, user_id) for number, user_id in enumerate(drivers, start=1)))
    follow(engine)

    assert statuses(engine) == {number: ("matched", number) for number in range(1, len(drivers) + 1)}


def test_matching_all_answers_again_goes_on_where_it_ended(engine, monkeypatch):
    most = 60
    monkeypatch.setitem(flows.MOST_ANSWERS, engine.dialect.name, most)
    numbers = range(1, 3 * most + 20)
    log_answers(engine, *(row_of(number, f"u{number % 9}", number / 100) for number in numbers))
    follow(engine)
    add_sessions(engine, *(session(number, number, f"u{number}") for number in range(9)))
    change(engine, text("UPDATE follower SET session_mark = NULL"))
    following = follower(engine)
    steps = []
    following.look(lambda: steps.append(1) or len(steps) == 2)
    with engine.connect() as connection:
        until = connection.scalar(text("SELECT rematched_until FROM follower"))
    following.close()
    follow(engine)

    assert until in {most, 2 * most}
    assert outcomes(engine) == by_definition(engine)


class Story:
    """Random answers, sessions, names and looks."""

    def __init__(self, engine, seed):
        self.engine = engine
        self.random = random.Random(seed)
        self.answers = self.sessions = 0
        self.changes = Counter()
        self.following = follower(engine, sums=[self.keep])

    def keep(self, _connection, changes):
        for one in changes:
            if one.before is not None:
                self.changes[one.before.kind, one.before.status, one.before.actual_class] -= 1
            self.changes[one.after.kind, one.after.status, one.after.actual_class] += 1

    def hour(self):
        return self.random.randrange(-4, 120) / 4

    def driver(self):
        return self.random.choice(["u", "v", None])

    def do(self):
        for step in self.random.choices(
            [self.ask, self.charge, self.move, self.remove, self.name, self.look], [8, 5, 3, 2, 3, 4], k=60
        ):
            step()

    def ask(self):
        some = []
        for _ in range(self.random.randrange(1, 4)):
            self.answers += 1
            some.append(row_of(self.answers, self.driver(), self.hour(), self.random.choice([None, 90])))
        log_answers(self.engine, *some)

    def charge(self):
        self.sessions += 1
        kind = self.random.choice(["A", "B", None])
        add_sessions(self.engine, session(self.sessions, self.hour(), self.driver(), kind))

    def one(self):
        return SESSIONS.c.session_id == self.random.randrange(self.sessions + 1)

    def move(self):
        values = {"charging_start_time": NOON + self.hour() * HOUR, "user_id": self.driver(), "charger_type": "B"}
        name = self.random.choice([*values])
        change(self.engine, update(SESSIONS).where(self.one()).values({name: values[name]}))

    def remove(self):
        change(self.engine, delete(SESSIONS).where(self.one()))

    def name(self):
        if self.sessions:
            named = self.random.choice([None, *range(1, self.answers + 3)])
            name_answer(self.engine, self.random.randrange(1, self.sessions + 1), named)

    def look(self):
        assert self.following.look()


@pytest.mark.parametrize("seed", range(4))
def test_the_rows_are_those_of_the_definition_whatever_happens_in_which_order(engine, seed):
    story = Story(engine, seed)
    story.do()
    story.look()
    rows = outcomes(engine)
    story.following.close()
    change_of_all = Counter((row["kind"], row["status"], row["actual_class"]) for row in rows.values())
    with write_transaction(engine) as connection:
        begin_anew(connection)
    follow(engine)

    assert rows == by_definition(engine)
    assert Counter({one: count for one, count in story.changes.items() if count}) == change_of_all
    assert outcomes(engine) == rows
    assert len({row["status"] for row in rows.values()}) == 4


def test_the_arrivals_of_outcomes_are_counted_once_with_their_delay(engine):
    now = datetime.now(UTC).replace(tzinfo=None)
    late = (now - NOON) / HOUR - 30
    counting = {"sums": [partial(count_arrivals, wall_time=wall_time)]}
    log_answers(engine, row_of(1, after=late), row_of(2, after=late, user_id="v"), row_of(3, after=late, user_id="w"))
    add_sessions(engine, session(9, late, user_id="w"))
    following = follower(engine, **counting)
    following.look()
    add_sessions(engine, session(7, late), session(8, late + 23, user_id="v"))
    following.look()
    change(engine, update(SESSIONS).where(SESSIONS.c.session_id == 7).values(charger_type="B"))
    following.look()
    following.close()
    # Another follower makes the outcomes again, and knows nothing about their arrivals.
    with write_transaction(engine) as connection:
        begin_anew(connection)
    follow(engine, **counting)

    with engine.connect() as connection:
        delays = arrived_delays(connection, datetime.now(UTC) - timedelta(days=1))
        hours = arrival_hours(connection, datetime.now(UTC) - timedelta(days=1))
    assert sum(delays.values(), Counter()) == {12: 1, 48: 1}
    assert abs(hours[-1] - now) < timedelta(hours=2)
    assert statuses(engine) == {1: ("matched", 7), 2: ("matched", 8), 3: ("matched", 9)}
