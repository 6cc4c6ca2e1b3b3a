"""zap tune."""

import json

import pytest
from histories import all_but_first
from sqlalchemy import create_engine, text

from zap.cli.shown_search import print_tuning


def tunings(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT hyper_parameters, evidence FROM tunings ORDER BY tuning_id")).all()
    engine.dispose()
    return [tuple(json.loads(cell) if isinstance(cell, str) else cell for cell in row) for row in rows]


@pytest.fixture
def short_history(trained_sqlite):
    """Settings of a database whose history is so short that a whole search takes seconds."""
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        connection.execute(all_but_first(300))
    engine.dispose()
    return trained_sqlite


def test_it_works(zap_command, short_history):
    """Store the result of a search with its evidence. Later trainings use it and say so, until it is forgotten."""
    done = zap_command("tune", "--trials", "3", settings=short_history)

    assert done.returncode == 0, done.stderr
    assert "the defaults" in done.stdout
    assert "Tuning 1: log loss" in " ".join(done.stdout.split())
    assert "tune ..." in done.stderr.splitlines()
    ((_, evidence),) = tunings(short_history)
    assert len(evidence["trials"]) == 3
    best = min((trial for trial in evidence["trials"] if len(trial["fold_log_losses"]) == evidence["folds"]),
               key=lambda trial: trial["log_loss"])  # fmt: skip

    report = json.loads(zap_command("train", "--json", settings=short_history).stdout)
    assert report["hyper_parameters_from"] == "tuning 1"
    assert report["hyper_parameters"].items() >= best["hyper_parameters"].items()

    forgotten = zap_command("tune", "--forget", settings=short_history)
    assert "defaults again" in forgotten.stdout
    report = json.loads(zap_command("train", "--json", settings=short_history).stdout)
    assert report["hyper_parameters_from"] == "defaults"
    assert report["hyper_parameters"]["num_leaves"] == 40


def test_json_is_the_evidence(zap_command, trained_sqlite):
    done = zap_command("tune", "--json", "--minutes", "0", settings=trained_sqlite)

    found = json.loads(done.stdout)
    assert found["tuning"] == 1
    assert found["hyper_parameters"] == {}
    assert found["log_loss"] == found["default_log_loss"]
    assert found["ended_by"] == "minutes"


def test_what_is_pinned_and_the_seed_are_kept(zap_command, short_history):
    asked = ("--trials", "4", "--seed", "7", "--set", "num_leaves=5", "--set", "reg_lambda=3")
    done = zap_command("tune", "--json", *asked, settings=short_history)
    again = zap_command("tune", *asked, settings=short_history)

    pinned = {"num_leaves": 5, "reg_lambda": 3}
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["seed"], found["pinned"]) == (7, pinned)
    assert len(found["trials"]) == 4
    assert all(trial["hyper_parameters"].items() >= pinned.items() for trial in found["trials"])
    assert found["hyper_parameters"].items() >= pinned.items()
    assert tunings(short_history)[0][0] == found["hyper_parameters"]
    # Its best is a candidate of the next search: nothing that was found is lost.
    _, repeated = tunings(short_history)[1]
    assert repeated["log_loss"] <= found["log_loss"]
    assert found["hyper_parameters"] in [trial["hyper_parameters"] for trial in repeated["trials"]]
    assert "In every set of hyper-parameters: num_leaves 5, reg_lambda 3." in " ".join(again.stdout.split())
    engine = create_engine(short_history.database_url)
    with engine.connect() as connection:
        runs = connection.execute(text("SELECT options FROM training_runs WHERE kind = 'tune' ORDER BY run_id")).all()
    engine.dispose()
    assert json.loads(runs[0][0]) == {"trials": 4, "minutes": 15.0, "hyper_parameters": pinned, "tune_seed": 7}


def test_a_training_that_searches_pins_what_it_sets(zap_command, short_history):
    done = zap_command(
        "train", "--json", "--tune", "--tune-seed", "7", "--set", "num_leaves=5", "--set", "n_estimators=12",
        settings=short_history,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    ((found, evidence),) = tunings(short_history)
    pinned = {"num_leaves": 5, "n_estimators": 12}
    assert (evidence["seed"], evidence["pinned"]) == (7, pinned)
    assert len(evidence["trials"]) == 24
    assert all(trial["hyper_parameters"].items() >= pinned.items() for trial in evidence["trials"])
    assert report["hyper_parameters"].items() >= found.items() >= pinned.items()


def test_a_candidate_that_was_given_up_shows_where_and_how_far_behind(capsys):
    def trial(values, log_losses, given_up=None):
        log_loss = None if given_up else sum(log_losses) / len(log_losses)
        return {
            "hyper_parameters": values,
            "log_loss": log_loss,
            "fold_log_losses": log_losses,
            "given_up": given_up,
        }

    def group(name, difference, high):
        return {
            "left_out": [name], "fold_log_losses": [0.4, 0.5], "log_loss_difference": difference,
            "interval": [-0.02, high], "better": high < 0,
        }  # fmt: skip

    early = {"folds": 1, "rows": 10_000, "log_loss": 0.21, "behind": 0.0321}
    late = {"folds": 1, "rows": 37_692, "log_loss": 0.22, "behind": 0.0123}
    print_tuning({
        "tuning": 3, "log_loss": 0.45, "default_log_loss": 0.5, "folds": 2, "sessions": 43_076, "seed": 9,
        "pinned": {"reg_alpha": 2.0}, "hyper_parameters": {"num_leaves": 7, "left_out": ["temperature"]},
        "groups": {
            "worth": {"time": 0.0123, "temperature": -0.0004, "vehicle": 0.0001}, "left_out": ["temperature"],
            "trials": [group("vehicle", -0.0002, 0.0011), group("temperature", -0.0007, -0.0003)],
        },
        "trials": [
            trial({"reg_alpha": 2.0}, [0.4, 0.6]),
            trial({"num_leaves": 4, "reg_alpha": 2.0}, [], early),
            trial({"num_leaves": 9, "reg_alpha": 2.0}, [], late),
            trial({"num_leaves": 7, "reg_alpha": 2.0}, [0.4, 0.5]),
        ],
    })  # fmt: skip

    shown = " ".join(capsys.readouterr().out.split())
    # The best candidates come first, then the candidates that were given up latest.
    places = [shown.index(text) for text in ("num_leaves 7", "the defaults", "num_leaves 9", "num_leaves 4")]
    assert places == sorted(places)
    assert "0.0123 behind on 1 fold, 37,692 rows" in shown
    assert "0.0321 behind on 1 fold, 10,000 rows" in shown
    # No mean that looks as if it could be compared.
    assert "0.21" not in shown
    assert "0.22" not in shown
    assert "In every set of hyper-parameters: reg_alpha 2.0." in shown
    assert "seed 9" in shown
    cells = " ".join(shown.replace("│", " ").split())
    assert "temperature -0.0004 -0.0007 -0.0200 to -0.0003 yes" in cells
    assert "vehicle +0.0001 -0.0002 -0.0200 to +0.0011 time +0.0123" in cells
    assert "Left out: temperature. The trees do not use these groups of columns." in shown


def test_too_little_history_stores_nothing(zap_command, empty_settings):
    done = zap_command("tune", settings=empty_settings)

    assert done.returncode == 11
    assert "0 usable sessions" in done.stderr
    assert "Traceback" not in done.stderr
    assert tunings(empty_settings) == []


def test_wrong_bounds_are_refused(zap_command, trained_sqlite):
    assert zap_command("tune", "--trials", "0", settings=trained_sqlite).returncode == 2
    assert zap_command("tune", "--minutes", "-1", settings=trained_sqlite).returncode == 2
    assert zap_command("tune", "--minutes", "nan", settings=trained_sqlite).returncode == 2
    assert zap_command("tune", "--seed", "-1", settings=trained_sqlite).returncode == 2
    for option in ("--seed", "--trials", "--minutes"):
        done = zap_command("tune", "--forget", option, "3", settings=trained_sqlite)
        assert done.returncode == 2
        assert "--forget searches nothing; leave out --trials," in " ".join(done.stderr.split())


def test_a_hyper_parameter_is_read_as_zap_train_reads_it(zap_command, trained_sqlite):
    for asked, said in (("num_leaves=1", "must be 2 to 4,096 leaves"), ("num_leaves", "is not NAME=VALUE")):
        done = zap_command("tune", "--set", asked, settings=trained_sqlite)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
    assert tunings(trained_sqlite) == []
