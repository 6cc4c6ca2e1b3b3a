"""zap tune."""

import json

from sqlalchemy import create_engine, text


def tunings(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT hyper_parameters, evidence FROM tunings ORDER BY tuning_id")).all()
    engine.dispose()
    return rows


def test_it_works(zap_command, trained_sqlite):
    """What is found is stored with its evidence, later trainings use it and say so, until it is forgotten."""
    done = zap_command("tune", "--trials", "3", settings=trained_sqlite)

    assert done.returncode == 0, done.stderr
    assert "the defaults" in done.stdout
    assert "Tuning 1: log loss" in " ".join(done.stdout.split())
    assert "tune ..." in done.stderr.splitlines()
    ((_, evidence),) = tunings(trained_sqlite)
    evidence = json.loads(evidence) if isinstance(evidence, str) else evidence
    assert len(evidence["trials"]) == 3
    best = min((trial for trial in evidence["trials"] if len(trial["fold_log_losses"]) == evidence["folds"]),
               key=lambda trial: trial["log_loss"])  # fmt: skip

    report = json.loads(zap_command("train", "--json", settings=trained_sqlite).stdout)
    assert report["hyper_parameters_from"] == "tuning 1"
    assert report["hyper_parameters"].items() >= best["hyper_parameters"].items()

    forgotten = zap_command("tune", "--forget", settings=trained_sqlite)
    assert "defaults again" in forgotten.stdout
    report = json.loads(zap_command("train", "--json", settings=trained_sqlite).stdout)
    assert report["hyper_parameters_from"] == "defaults"
    assert report["hyper_parameters"]["num_leaves"] == 40


def test_json_is_the_evidence(zap_command, trained_sqlite):
    done = zap_command("tune", "--json", "--minutes", "0", settings=trained_sqlite)

    found = json.loads(done.stdout)
    assert found["tuning"] == 1
    assert found["hyper_parameters"] == {}
    assert found["log_loss"] == found["default_log_loss"]
    assert found["ended_by"] == "minutes"


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
