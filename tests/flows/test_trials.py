"""Trials: the challenger answers as it would have served, and verdicts promote, end, or leave a trial running."""

import json
from datetime import timedelta

import pytest
import structlog
from conftest import client_of
from sqlalchemy import event, func, select, text, update
from sqlmodel import col
from trialled import HORIZON, add_copies, answered, follow, no_check

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.trials import MOST_RUNNING, list_trials, read_trial
from zap.db.monitoring_tables import Follower, Outcome, Trial, TrialPrediction
from zap.db.tables import ModelVersion, Prediction, Promotion, User, Vehicle, utc_now
from zap.db.versions.promotions import promote_version, roll_back, serving_version
from zap.flows import trial_answers
from zap.flows.trials import Trials, stop_trial, try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.monitoring.trials import CAVEAT, RATE

WEEK = timedelta(weeks=1)
PROMOTE = TrialOptions(on_better="promote", epsilon=0.01, who="ann", why="more trees")


class Service:
    """A database with version 1 in production and copies of it, and what looks after trials."""

    def __init__(self, settings):
        self.settings = settings
        self.engine = create_engine(settings.database_url)
        self.trials = Trials(self.engine, settings, HORIZON)

    def begin(self, options=PROMOTE, version=None):
        version = version or add_copies(self.engine)[0]
        self.trial = try_version(self.engine, version, options)
        return self.trial["trial_id"]

    def week(self, number, said, **more):
        """Let all drivers ask in a week of the trial, and look at the trial when the outcomes are known."""
        at = self.settings.wall_time(self.trial["started_at"]) + number * WEEK - timedelta(days=3)
        answered(self.engine, self.trial["trial_id"], at, said, **more)
        return self.look(number)

    def look(self, weeks, more=timedelta(seconds=1)):
        self.trials.look(no_check, self.trial["started_at"] + weeks * WEEK + HORIZON + more)
        self.trial = read_trial(self.engine, self.trial["trial_id"])
        return self.trial

    def serving(self):
        with self.engine.connect() as connection:
            return serving_version(connection)

    def rows(self, table):
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table.__table__)).mappings()]

    def close(self):
        self.trials.close()
        self.engine.dispose()


@pytest.fixture
def service(trained):
    service = Service(trained)
    yield service
    service.close()


@pytest.fixture
def sqlite_service(trained_sqlite):
    service = Service(trained_sqlite)
    yield service
    service.close()


def of_production(service, trial_id):
    """Return the answers of production and of the challenger to the same requests."""
    production = {row["prediction_id"]: row for row in service.rows(Prediction)}
    theirs = {row["prediction_id"]: row for row in service.rows(TrialPrediction) if row["trial_id"] == trial_id}
    return [(production[number], theirs[number]) for number in sorted(theirs)]


def request_of(user_id, start, request, **more):
    return request | {"user_id": user_id, "charging_start_time": start} | more


def test_a_challenger_with_the_artefact_of_the_champion_answers_bit_for_bit_alike(service, good_request):
    """Ask alone, in batches and in CSV, with pasts, with gaps, and without a start; nothing asked before counts."""
    drivers = [row["user_id"] for row in service.rows(User)[:5]]
    vehicle = service.rows(Vehicle)[0]["vehicle_id"]
    start = good_request.pop("charging_start_time")
    gaps = {name: good_request[name] for name in ("distance_driven_km", "temperature_c", "state_of_charge_start")}
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        assert client.post("/predict", json=good_request).status_code == 200
        trial_id = service.begin()
        asked = [
            good_request,
            *(request_of(driver, start, good_request) for driver in drivers),
            # In the middle of the history: only earlier sessions of the driver count.
            *(request_of(driver, "2024-06-03T08:00:00", good_request) for driver in drivers),
            request_of(drivers[0], None, gaps),
            gaps | {"vehicle_id": vehicle},
            request_of("nobody knows me", None, good_request),
        ]
        for request in asked:
            assert client.post("/predict", json=request).status_code == 200
        assert client.post("/predict/batch", json={"inputs": asked}).status_code == 200
        lines = "\n".join(map(json.dumps, asked))
        assert client.post("/predict/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
    follow(service.engine)

    assert not service.trials.look(no_check, utc_now())

    both = of_production(service, trial_id)
    assert len(both) == 3 * len(asked)
    for theirs, own in both:
        assert own["features"] == theirs["features"]
        assert own["probabilities"] == theirs["probabilities"]
        assert own["predicted_class"] == theirs["predicted_class"]
    # Drivers and moments make a difference, so the requests are a test.
    assert len({own["features"] for _, own in both}) >= 2 * len(drivers) + 3
    found = read_trial(service.engine, trial_id)
    assert (found["answered"], found["refused"]) == (len(both), 0)


def test_requests_that_only_the_challenger_refuses_are_counted_and_keep_it_from_serving(sqlite_service, good_request):
    service = sqlite_service
    contract = dict(service.rows(ModelVersion)[0]["contract"])
    with client_of(service.settings) as client:
        service.begin()
        for user_type in ("Commuter", good_request["user_type"], "Commuter"):
            body = good_request | {"user_type": user_type, "user_id": "u"}
            assert client.post("/predict", json=body).status_code == 200
    follow(service.engine)
    load = trial_answers.load_version

    def without_commuters(engine, version):
        model = load(engine, version)
        model.contract["categories"]["user_type"].remove("Commuter")
        return model

    assert "Commuter" in contract["categories"]["user_type"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_answers, "load_version", without_commuters)
        service.trials.look(no_check, utc_now())
    refused = 3 if good_request["user_type"] == "Commuter" else 2

    found = service.week(1, (0.4, 0.9))

    assert (found["answered"], found["refused"]) == (3 - refused, refused)
    assert (found["status"], found["evidence"]["promoted"]) == ("better", False)
    assert f"would have refused {refused} of the requests" in found["evidence"]["message"]
    assert service.serving() == 1


def test_a_killed_process_leaves_what_another_one_completes_to_equal_rows(service, good_request, monkeypatch):
    """Fail in the middle of a commit, at any portion: each answer is there once, with its mark."""
    monkeypatch.setattr(trial_answers, "_PORTION", 4)
    monkeypatch.setattr(trial_answers, "_MOST_PORTIONS", 2)
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        one, other = (service.begin(TrialOptions()) for _ in range(2))
        for number in range(11):
            assert client.post("/predict", json=good_request | {"user_id": f"driver {number % 7}"}).status_code == 200
    follow(service.engine)
    rounds = 0

    def lost(connection):
        nonlocal rounds
        rounds += 1
        if rounds % 3 == 0:
            # The mark and the rows of this portion are written, and not committed.
            event.listen(connection, "commit", _refuse, once=True)

    waits = True
    while waits:
        try:
            waits = Trials(service.engine, service.settings, HORIZON).look(lost, utc_now())
        except ConnectionError:
            continue

    assert rounds >= 8
    rows = [{name: row[name] for name in row if name != "trial_id"} for row in service.rows(TrialPrediction)]
    by_trial = {trial: [pair[1] for pair in of_production(service, trial)] for trial in (one, other)}
    assert len(rows) == 22
    for theirs, own in of_production(service, one):
        assert own["probabilities"] == theirs["probabilities"]
    assert [row | {"trial_id": other} for row in by_trial[one]] == by_trial[other]
    assert {read_trial(service.engine, trial)["answered"] for trial in (one, other)} == {11}


def _refuse(connection):
    raise ConnectionError("killed")


def test_an_answer_that_is_committed_late_is_not_passed_over(sqlite_service, good_request):
    service = sqlite_service
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        trial_id = service.begin()
        ids = [client.post("/predict", json=good_request).json()["prediction_id"] for _ in range(4)]
    follow(service.engine, missing=[ids[1]])
    service.trials.look(no_check, utc_now())
    assert [theirs["prediction_id"] for theirs, _ in of_production(service, trial_id)] == ids[:1]

    follow(service.engine)
    service.trials.look(no_check, utc_now())

    assert [theirs["prediction_id"] for theirs, _ in of_production(service, trial_id)] == ids


def test_a_challenger_that_is_better_is_promoted_with_the_figures(service, good_request):
    trial_id = service.begin()
    first = service.week(1, (0.5, 0.7), mixed=True)
    assert (first["status"], first["evidence"]["look"], first["evidence"]["verdict"]) == ("running", 1, "undecided")
    assert service.serving() == 1

    with structlog.testing.capture_logs() as logs:
        ended = service.week(2, (0.5, 0.95), seed=1)

    assert (ended["status"], ended["evidence"]["promoted"]) == ("better", True)
    assert service.serving() == ended["model_version"] == 2
    change = service.rows(Promotion)[-1]
    assert (change["action"], change["from_version"], change["who"]) == ("promote", 1, "trial")
    assert change["why"].startswith(f"trial {trial_id}: The challenger is better: after look 2 of 8")
    evidence = ended["evidence"]
    # Each driver has a session in each week, and no version was better in the first week.
    champion, challenger = ((3 / 4) * (1 - share) ** 2 for share in (0.5, 0.95))
    assert evidence["mean"] == pytest.approx((0 + champion - challenger) / 2)
    assert (evidence["drivers"], evidence["sessions"]) == (150, 300)
    assert 0 < evidence["low"] < evidence["mean"]
    assert evidence["message"].startswith("Version 2 serves now, instead of version 1.")
    assert CAVEAT in evidence["message"]
    assert CAVEAT in change["why"]
    (line,) = [one for one in logs if one["event"] == "look at a trial"]
    assert (line["trial_id"], line["status"], line["promoted"], line["drivers"]) == (trial_id, "better", True, 150)
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        assert client.post("/predict", json=good_request).json()["model_version"] == 2


def test_a_challenger_that_is_worse_ends_the_trial(service):
    service.begin()

    ended = service.week(1, (0.9, 0.4))

    assert (ended["status"], ended["evidence"]["promoted"]) == ("worse", False)
    assert ended["ended_at"] is not None
    assert ended["evidence"]["high"] < 0
    assert service.serving() == 1
    # What has ended is not looked at again.
    assert service.look(2) == ended


@pytest.mark.parametrize(("said", "verdict"), [((0.5, 0.5), "not_worse"), ((0.4, 0.9), "undecided")])
def test_the_longest_time_ends_a_trial(sqlite_service, said, verdict):
    service = sqlite_service
    service.begin(TrialOptions(weeks=2, epsilon=0.001, on_better="promote"))

    assert service.week(1, said, mixed=True)["status"] == "running"
    ended = service.week(2, said, mixed=True)

    assert ended["status"] == verdict
    assert "The longest time of the trial has passed." in ended["evidence"]["message"]
    assert (ended["evidence"]["look"], service.serving()) == (2, 1)


def test_better_only_says_so_where_no_promotion_was_asked(sqlite_service):
    sqlite_service.begin(TrialOptions())

    ended = sqlite_service.week(1, (0.4, 0.9))

    assert (ended["status"], ended["evidence"]["promoted"]) == ("better", False)
    assert "To let it serve: zap models promote 2." in ended["evidence"]["message"]
    assert sqlite_service.serving() == 1


def test_missed_looks_are_taken_one_after_the_other(sqlite_service):
    service = sqlite_service
    service.begin(TrialOptions(weeks=4))
    start = service.settings.wall_time(service.trial["started_at"])
    for week in range(3):
        answered(service.engine, service.trial["trial_id"], start + week * WEEK + timedelta(days=1), (0.5, 0.5))

    found = service.look(3)

    assert (found["status"], found["evidence"]["look"], found["evidence"]["sessions"]) == ("running", 3, 450)


def test_a_look_waits_for_the_outcomes(sqlite_service):
    service = sqlite_service
    service.begin()
    at = service.settings.wall_time(service.trial["started_at"]) + timedelta(days=2)
    answered(service.engine, service.trial["trial_id"], at, (0.4, 0.9))

    # The last outcomes of the week may still come.
    assert service.look(1, -timedelta(minutes=1))["status"] == "running"
    # The follower is behind: an answer of that time is not followed yet.
    with write_transaction(service.engine) as connection:
        last = connection.scalar(select(func.max(col(Prediction.prediction_id))))
        connection.execute(update(Follower).values(prediction_id=last - 1))
    assert "verdict" not in service.look(1)["evidence"]
    with write_transaction(service.engine) as connection:
        connection.execute(update(Follower).values(prediction_id=last, rematched_until=5))
    assert "verdict" not in service.look(1)["evidence"]

    with write_transaction(service.engine) as connection:
        connection.execute(update(Follower).values(rematched_until=None))
    assert service.look(1)["status"] == "better"


class AnotherFollows(Exception):
    """Stand for the loss of the lease."""


def test_a_long_look_lets_others_have_turns_and_can_end_between_two_portions(sqlite_service, monkeypatch):
    service, turns = sqlite_service, []
    service.begin()
    at = service.settings.wall_time(service.trial["started_at"]) + timedelta(days=2)
    answered(service.engine, service.trial["trial_id"], at, (0.4, 0.9))
    monkeypatch.setattr("zap.db.monitoring.trial_predictions._PORTION", 40)
    now = service.trial["started_at"] + WEEK + HORIZON + timedelta(seconds=1)

    def between():
        turns.append(len(turns))
        if len(turns) == 3:
            raise AnotherFollows

    with pytest.raises(AnotherFollows):
        service.trials.look(no_check, now, between)
    assert read_trial(service.engine, service.trial["trial_id"])["status"] == "running"

    service.trials.look(no_check, now, lambda: turns.append(len(turns)))
    assert read_trial(service.engine, service.trial["trial_id"])["status"] == "better"
    # One turn before the requests, and one for each portion of 150 sessions; three of them ended in the error.
    assert len(turns) == 3 + 1 + 4


def test_requests_that_are_none_of_a_trial_are_passed(service, good_request, monkeypatch):
    """After a batch over the past, a look does not go through all of its rows again."""
    monkeypatch.setattr(trial_answers, "_MOST_NUMBERS", 4)
    trial_id = service.begin()
    past = request_of("somebody", "2024-06-03T08:00:00", good_request)
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        assert client.post("/predict/batch", json={"inputs": [past] * 9}).status_code == 200
        follow(service.engine)
        with write_transaction(service.engine) as connection:
            connection.execute(update(Outcome).values(kind="backtest"))
        assert not service.trials.look(no_check, utc_now())
        last = max(row["prediction_id"] for row in service.rows(Prediction))
        (trial,) = service.rows(Trial)
        assert last - 4 < trial["state"]["prediction_id"] <= last
        assert client.post("/predict", json=good_request).status_code == 200
    follow(service.engine)

    assert not service.trials.look(no_check, utc_now())

    assert read_trial(service.engine, trial_id)["answered"] == 1


@pytest.mark.parametrize(
    "change", [{"kind": "backtest"}, {"status": "superseded"}, {"status": "waiting"}, {"user_id": None}]
)
def test_only_matched_sessions_of_drivers_are_compared(sqlite_service, change):
    service = sqlite_service
    service.begin()
    at = service.settings.wall_time(service.trial["started_at"]) + timedelta(days=2)
    answered(service.engine, service.trial["trial_id"], at, (0.4, 0.9))
    with write_transaction(service.engine) as connection:
        connection.execute(update(Outcome).values(**change))
        if "kind" in change:
            connection.execute(text("DELETE FROM trial_predictions"))

    found = service.look(1)

    assert (found["status"], found["evidence"]["sessions"]) == ("running", 0)


def test_a_trial_ends_if_another_version_serves(service):
    number, other = add_copies(service.engine, 2)
    service.begin(version=number)
    promote_version(service.engine, other, Reason(who="bob"))

    ended = service.week(1, (0.4, 0.9))

    assert (ended["status"], service.serving()) == ("ended", other)
    assert f"since a promotion, version {other} serves instead of version 1" in ended["evidence"]["message"]


def test_a_trial_ends_if_its_champion_is_rolled_back(sqlite_service):
    service = sqlite_service
    other, number = add_copies(service.engine, 2)
    promote_version(service.engine, other, Reason())
    service.begin(version=number)
    assert service.trial["champion_version"] == other
    roll_back(service.engine, Reason())

    ended = service.week(1, (0.4, 0.9))

    assert (ended["status"], service.serving()) == ("ended", 1)
    assert f"since a rollback, version 1 serves instead of version {other}" in ended["evidence"]["message"]


def test_the_promotion_and_the_champion_are_checked_in_one_transaction(sqlite_service):
    """Let another version be promoted just before the trial promotes its own."""
    service = sqlite_service
    number, other = add_copies(service.engine, 2)
    service.begin(version=number)
    from zap.flows import trial_looks  # noqa: PLC0415 - only for this test

    check = trial_looks.check_usable

    def other_first(engine, version):
        check(engine, version)
        promote_version(engine, other, Reason())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_looks, "check_usable", other_first)
        ended = service.week(1, (0.4, 0.9))

    assert (ended["status"], ended["evidence"]["promoted"], service.serving()) == ("ended", False, other)
    assert f"version {other} serves now instead of version 1" in ended["evidence"]["message"]


def test_a_challenger_that_cannot_be_loaded_ends_the_trial(sqlite_service, good_request):
    service = sqlite_service
    service.begin()
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        client.post("/predict", json=good_request)
    follow(service.engine)
    with write_transaction(service.engine) as connection:
        of_trial = col(ModelVersion.model_version) == service.trial["model_version"]
        connection.execute(update(ModelVersion).where(of_trial).values(artefact=b"damaged"))

    ended = service.look(0)

    assert ended["status"] == "ended"
    assert "version 2 cannot answer, the artefact's SHA-256" in ended["evidence"]["message"]


def test_a_trial_that_a_person_ends_meanwhile_stays_ended(sqlite_service, good_request):
    service = sqlite_service
    service.begin()
    with client_of(service.settings.model_copy(update={"follow": False})) as client:
        client.post("/predict", json=good_request)
    follow(service.engine)

    ended = stop_trial(service.engine, 2, Reason(who="bob", why="a mistake"))
    service.trials.look(no_check, utc_now() + 2 * WEEK)

    assert ended["evidence"]["message"].startswith("The trial was ended by bob: a mistake. ")
    assert read_trial(service.engine, ended["trial_id"]) == ended
    assert service.rows(TrialPrediction) == []


def test_without_a_trial_a_look_is_one_query(service):
    service.begin()
    service.trials.look(no_check, utc_now())
    stop_trial(service.engine, 2, Reason())
    statements = []
    event.listen(service.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert service.trials.look(no_check, utc_now()) is False

    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) == 1
    if service.engine.dialect.name == "sqlite":
        with service.engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[0]}").all()
        assert "USING INDEX ix_trials_model_version" in str(plan)


def test_what_a_challenger_remembers_of_an_erased_driver_is_forgotten(sqlite_service):
    service = sqlite_service
    service.begin()
    service.trials.look(no_check, utc_now())
    remembered = service.trials._challengers._histories._long._pasts
    with service.engine.connect() as connection:
        there = connection.scalar(select(col(User.user_id)).limit(1))
    remembered |= {"erased": object(), there: object()}

    service.trials.look(no_check, utc_now())

    assert [*remembered] == [there]


def test_four_trials_at_most_share_the_rate(sqlite_service):
    numbers = add_copies(sqlite_service.engine, MOST_RUNNING + 1)
    for number in numbers[:-1]:
        sqlite_service.begin(version=number)

    assert [one["status"] for one in list_trials(sqlite_service.engine, 10)] == ["running"] * MOST_RUNNING
    stored = [row["state"]["comparison"] for row in sqlite_service.rows(Trial)]
    assert [(one["rate"], one["challengers"]) for one in stored] == [(RATE, MOST_RUNNING)] * MOST_RUNNING
