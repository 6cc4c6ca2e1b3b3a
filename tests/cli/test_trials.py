"""zap models try, trials and end-trial; and zap train --promote trial."""

import json
from datetime import timedelta

import pytest
from trialled import HORIZON, add_copies, answered, no_check

from zap.db.engine import create_engine
from zap.db.monitoring.trials import read_trial
from zap.flows.trials import Trials
from zap.monitoring.trials import CAVEAT, EPSILON, LONGEST_WEEKS


@pytest.fixture
def engine_of():
    """Return a function that opens a database for the length of a test."""
    engines = []

    def opened(settings):
        engines.append(create_engine(settings.database_url))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.dispose()


def printed(done, exit_code=0):
    assert done.returncode == exit_code, done.stderr
    return json.loads(done.stdout)


def words(done):
    """Return what is printed, with single spaces."""
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_the_whole_life_of_a_trial(zap_command, trained, engine_of, monkeypatch):
    """Train a candidate that goes on trial, let two weeks pass, and see it serve."""
    monkeypatch.setenv("COLUMNS", "300")
    quick = ("--set", "n_estimators=20", "--promote", "trial")
    report = printed(zap_command("train", *quick, "--json", settings=trained))
    assert (report["model_version"], report["promotion"]["promoted"], report["promotion"]["trial"]) == (2, False, 1)
    for said in (
        "Version 2 was trained",
        "stays a candidate: trial 1 compares it with the version in production",
        CAVEAT,
    ):
        assert said in report["message"]
    engine = engine_of(trained)
    trial = read_trial(engine, 1)
    assert (trial["on_better"], trial["why"], trial["weeks"]) == ("promote", "training run 2", LONGEST_WEEKS)
    shown = words(zap_command("models", "trials", settings=trained))
    assert "1 2 beside 1 running 0 of 8" in shown
    assert CAVEAT in shown

    trials, start = Trials(engine, trained, HORIZON), trained.wall_time(trial["started_at"])
    answered(engine, 1, start + timedelta(days=1), (0.3, 0.9), mixed=True)
    trials.look(no_check, trial["started_at"] + timedelta(weeks=1) + HORIZON)
    assert "1 2 beside 1 running 1 of 8 150 +0.0000" in words(zap_command("models", "trials", settings=trained))
    answered(engine, 1, start + timedelta(days=8), (0.3, 0.99), seed=1)
    trials.look(no_check, trial["started_at"] + timedelta(weeks=2) + HORIZON)
    trials.close()

    (found,) = printed(zap_command("models", "trials", "--json", settings=trained))["trials"]
    assert (found["status"], found["evidence"]["look"], found["evidence"]["promoted"]) == ("better", 2, True)
    listed = printed(zap_command("models", "list", "--json", settings=trained))["models"]
    assert [(one["model_version"], one["status"]) for one in listed] == [(2, "production"), (1, "archived")]
    history = printed(zap_command("models", "history", "--json", settings=trained))["promotions"]
    assert (history[0]["who"], history[0]["from_version"], history[0]["to_version"]) == ("trial", 1, 2)
    # The file of production follows.
    assert trained.model_file.exists()


def test_without_a_trial_it_says_how_to_begin_one(zap_command, trained_sqlite):
    assert "no trials; `zap models try VERSION` begins one" in words(
        zap_command("models", "trials", settings=trained_sqlite)
    )


def test_a_version_is_tried_and_its_trial_is_ended(zap_command, trained_sqlite, engine_of):
    add_copies(engine_of(trained_sqlite))

    begun = words(zap_command("models", "try", 2, "--who", "ann", settings=trained_sqlite))
    assert begun.startswith("Trial 1 of version 2 beside version 1 runs, until ")
    assert CAVEAT in begun
    trial = read_trial(engine_of(trained_sqlite), 1)
    assert (trial["epsilon"], trial["weeks"], trial["on_better"], trial["who"]) == (
        *(EPSILON, LONGEST_WEEKS), *("tell", "ann")
    )  # fmt: skip
    ended = words(zap_command("models", "end-trial", 2, "--who", "bob", "--why", "a mistake", settings=trained_sqlite))
    assert ended.startswith("Trial 1 of version 2 beside version 1 has ended. The trial was ended by bob: a mistake.")

    options = ("--epsilon", 0.02, "--weeks", 3, "--on-better", "promote", "--why", "again", "--json")
    again = printed(zap_command("models", "try", 2, *options, settings=trained_sqlite))
    assert [again[name] for name in ("trial_id", "epsilon", "weeks", "on_better", "why", "status")] == [
        *(2, 0.02, 3), *("promote", "again", "running")
    ]  # fmt: skip
    ended = printed(zap_command("models", "end-trial", 2, "--json", settings=trained_sqlite))
    assert (ended["trial_id"], ended["status"]) == (2, "ended")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "problem"),
    [
        (("try", 1), 33, "trial-refused"),
        (("try", 99), 20, "not-found"),
        (("end-trial", 1), 20, "not-found"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_an_exit_code(zap_command, trained_sqlite, arguments, exit_code, problem):
    done = zap_command("models", *arguments, "--json", settings=trained_sqlite)

    told = printed(done, exit_code)
    assert told["type"] == f"urn:zap:problem:{problem}"
    assert told["detail"] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", [("--epsilon", "0.7"), ("--weeks", "0"), ("--on-better", "serve")])
def test_a_wrong_option_is_refused(zap_command, trained_sqlite, option):
    assert zap_command("models", "try", 2, *option, settings=trained_sqlite).returncode == 2
