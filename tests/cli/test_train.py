"""zap train."""

import json
import os
import re
import time
from contextlib import contextmanager
from pathlib import Path

import joblib
import msgspec
import pandas as pd
import pytest
from forked import COMMANDS
from sqlalchemy import create_engine, text

from zap.db.engine import create_engine as zap_engine
from zap.db.engine import write_transaction
from zap.db.runs.training_runs import cancel_run, claim_run, read_run, running_run
from zap.flows.training_report import TrainReply

QUICK = ("--set", "n_estimators=10")


@pytest.mark.parametrize("trained", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_it_works(zap_command, trained):
    done = zap_command("train", settings=trained)

    assert done.returncode == 0
    assert "Version 2 was trained" in done.stdout
    for shown in (
        "baseline: prior",
        "baseline: driver share",
        "Level 1",
        "synthetic",
        "the type that the driver used",
    ):
        assert shown in " ".join(done.stdout.split())
    # Where nobody watches, progress is a plain line a phase.
    assert [line for line in done.stderr.splitlines() if line.endswith("...")] == [
        "read ...", "clean ...", "features ...", "fit ...", "evaluate ...", "save ...", "log ...",
    ]  # fmt: skip
    assert "\x1b[" not in done.stdout + done.stderr


def test_windows_are_shown(zap_command, trained_sqlite):
    done = zap_command("train", "--windows", *QUICK, settings=trained_sqlite)

    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    last = re.search(r"on the last [\d,]+ sessions", shown)[0]
    windows = re.search(r"on the [\d,]+ sessions of 5 rolling windows", shown)[0]
    # Each table says which sessions it is about.
    for said in (f"by drivers' past, {windows}", f"by charger type, {last}", f"expected calibration error {last}"):
        assert said in shown
    assert re.search(r"beats baselines: [a-z, ]+, on [\d,]+ sessions \(the rolling windows\)", shown)
    assert "20+ past sessions" in shown
    assert "windows ..." in done.stderr.splitlines()


def test_json_is_exactly_the_reply_of_the_server(zap_command, trained_sqlite, sqlite_client):
    over_http = sqlite_client.post("/train-model", json={"hyper_parameters": {"n_estimators": 10}})
    printed = zap_command("train", "--json", *QUICK, settings=trained_sqlite)

    assert printed.returncode == 0
    report = msgspec.json.decode(printed.stdout, type=TrainReply)
    assert printed.stdout.count("\n") == 1
    served = msgspec.json.decode(over_http.content, type=TrainReply)
    assert (served.model_version, report.model_version) == (2, 3)
    same = (
        "test_f1_score",
        "test_f1_interval",
        "log_loss",
        "baselines",
        "confusion_matrix",
        "dropped",
        "hyper_parameters",
    )
    assert [getattr(report, name) for name in same] == [getattr(served, name) for name in same]
    assert list(json.loads(printed.stdout)) == list(over_http.json())


def test_the_exported_file_is_an_estimator_of_natural_unit_columns(zap_command, trained_sqlite, good_request):
    zap_command("train", *QUICK, settings=trained_sqlite)

    model = joblib.load(trained_sqlite.model_file)

    frame = pd.DataFrame(
        [good_request | {"vehicle_model": None, "charging_start_time": pd.Timestamp("2024-05-01 18:00")}]
    )
    assert set(model.feature_names_in_) == set(frame)
    assert model.predict_proba(frame).shape == (1, len(model.classes_))
    assert model.predict(frame)[0] in model.classes_
    assert model.get_params()["num_leaves"] == 40


def test_charger_types_are_shown_as_they_are(zap_command, trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        connection.execute(
            text("""UPDATE "ChargingSessions" SET charger_type = '[red]AC' WHERE charger_type = 'Level 1'""")
        )
    engine.dispose()

    assert "[red]AC" in zap_command("train", *QUICK, settings=trained_sqlite).stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_history_it_fails_in_a_sentence(zap_command, empty_settings, as_json):
    done = zap_command("train", *["--json"] * as_json, settings=empty_settings)

    assert done.returncode == 11
    assert "0 usable sessions in ChargingSessions" in done.stderr
    assert "upgraded" in done.stderr
    assert "Traceback" not in done.stderr
    # The reason is said once, and not in the log too.
    assert done.stderr.count("0 usable sessions") == 1
    assert (json.loads(done.stdout)["status"] if as_json else done.stdout) == (422 if as_json else "")


def test_rows_of_a_run_that_died_are_removed_first(zap_command, trained):
    engine = create_engine(trained.database_url)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO training_runs (status, started_at) VALUES ('running', '2026-01-01T00:00:00+00:00')")
        )
        connection.execute(
            text(
                "INSERT INTO model_versions (run_id, status, created_at, artefact, sha256, hyper_parameters, contract)"
                " SELECT 2, 'candidate', created_at, artefact, 'x', hyper_parameters, contract FROM model_versions"
            )
        )
        connection.execute(
            text(
                "INSERT INTO predictions (prediction_timestamp, source, predicted_class, model_version)"
                " SELECT prediction_timestamp, source, predicted_class, 2 FROM predictions"
            )
        )

    assert zap_command("train", *QUICK, settings=trained).returncode == 0

    with engine.connect() as connection:
        runs = connection.execute(text("SELECT run_id, status FROM training_runs ORDER BY run_id")).all()
        versions = connection.execute(text("SELECT model_version, status FROM model_versions ORDER BY 1")).all()
        logged = connection.scalars(text("SELECT DISTINCT model_version FROM predictions ORDER BY 1")).all()
    engine.dispose()
    assert [tuple(run) for run in runs] == [(1, "finished"), (2, "failed"), (3, "finished")]
    assert [tuple(version) for version in versions] == [(1, "archived"), (3, "production")]
    assert logged == [1, 3]


def test_a_strange_model_file_is_moved_aside(zap_command, trained_sqlite):
    trained_sqlite.model_file.write_bytes(b"of an older service")

    assert zap_command("train", *QUICK, settings=trained_sqlite).returncode == 0

    (aside,) = trained_sqlite.models_dir.glob("*.not-zap-*")
    assert aside.read_bytes() == b"of an older service"
    assert joblib.load(trained_sqlite.model_file).classes_.tolist() == [
        "DC Fast Charger",
        "Level 1",
        "Level 2",
    ]


def test_what_is_asked_for_is_what_the_body_of_train_model_takes(zap_command, trained_sqlite):
    done = zap_command(
        "train", "--from", "2024-01-15", "--to", "2024-04-01", "--test-share", "0.2", "--set", "num_leaves=7",
        "--set", "n_estimators=5", "--estimator", "lightgbm", "--promote", "never", "--note", "a trial", "--json",
        settings=trained_sqlite,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["hyper_parameters_from"] == "defaults, and the request: n_estimators, num_leaves"
    assert report["note"] == "a trial"
    assert (report["estimator"], report["logistic_weight"]) == ("lightgbm", 0.0)
    assert report["parts"]["trees"]["log_loss"] == report["log_loss"]
    assert report["promotion"]["promoted"] is False
    assert report["test_samples"] / (report["trained_samples"] + report["test_samples"]) == pytest.approx(0.2, abs=0.01)
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        options = connection.scalar(text("SELECT options FROM training_runs WHERE run_id = 2"))
    engine.dispose()
    assert json.loads(options) == {
        "history_from": "2024-01-15T00:00:00", "history_to": "2024-04-01T00:00:00", "test_share": 0.2,
        "estimator": "lightgbm",
        "hyper_parameters": {"num_leaves": 7, "n_estimators": 5}, "promote": "never", "note": "a trial",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "num_leaves=1"], "--set num_leaves is 1; must be 2 to 4,096 leaves"),
        (["--set", "leaves=7"], "--set leaves is not a field"),
        (["--set", "num_leaves"], "'num_leaves' is not NAME=VALUE"),
        (["--set", "num_leaves=3", "--set", "num_leaves=4"], "more than once"),
        (["--from", "yesterday"], "--from is 'yesterday'"),
        (["--from", "2024-02-01", "--to", "2024-02-01"], "--to is 2024-02-01 00:00:00; must be after"),
        (["--nested"], "--nested needs tune and windows"),
        (["--test-share", "0"], "--test-share is 0.0"),
        (["--promote", "maybe"], "'maybe' is not one of"),
        (["--estimator", "forest"], "'forest' is not one of"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_anything_runs(zap_command, trained_sqlite, options, says):
    done = zap_command("train", *options, settings=trained_sqlite)

    assert done.returncode == 2
    assert says in done.stderr
    assert "#/" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_option_is_told_in_json_as_http_tells_it(zap_command, trained_sqlite):
    done = zap_command("train", "--nested", "--json", settings=trained_sqlite)

    assert done.returncode == 2
    assert [error["pointer"] for error in json.loads(done.stdout)["errors"]] == ["#/nested"]


def test_a_second_training_is_told_which_one_runs(zap_command, trained):
    engine = zap_engine(trained.database_url)
    run = claim_run(engine, "train", {})

    done = zap_command("train", settings=trained)

    engine.dispose()
    assert done.returncode == 9
    assert f"training run {run} has not ended" in done.stderr


@contextmanager
def started(settings, *options):
    """Start a training, and yield its process and the file of its standard error."""
    with Path("err").open("w+b", buffering=0) as err, Path(os.devnull).open("r+b", buffering=0) as nothing:
        streams = nothing.fileno(), nothing.fileno(), err.fileno()
        child = COMMANDS.start(["train", *options], os.environ | settings.environment(), streams)
        try:
            yield child, Path("err")
        finally:
            child.kill()


@pytest.mark.parametrize("trained", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_a_training_that_is_cancelled_ends_within_two_seconds(trained):
    # The training ends even in the middle of a computation.
    engine = zap_engine(trained.database_url)
    options = ["--set", "n_estimators=10000", "--set", "num_leaves=200"]
    with started(trained, *options) as (child, stderr):
        end = time.monotonic() + 120
        while (running_run(engine) is None) or (read_run(engine, 2)["progress"] or {}).get("phase") != "fit":
            assert time.monotonic() < end
            time.sleep(0.05)

        cancel_run(engine, 2)

        cancelled = time.monotonic()
        assert child.wait(60) == 22
        # Two seconds, and room for a machine three times slower.
        assert time.monotonic() - cancelled < 6
        assert "The training was cancelled" in stderr.read_text()
    engine.dispose()


def test_a_training_waits_for_whoever_writes_for_long(trained_sqlite):
    # A long import must not make the training lose its result, and the training is not taken for dead.
    engine = zap_engine(trained_sqlite.database_url)
    with started(trained_sqlite, "--set", "n_estimators=3") as (child, stderr):
        end = time.monotonic() + 120
        while running_run(engine) is None or read_run(engine, 2)["heartbeat_at"] is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        with write_transaction(engine):
            # Longer than any other transaction waits.
            time.sleep(7)
            assert child.poll() is None

        assert child.wait(120) == 0, stderr.read_text()
    assert read_run(engine, 2)["status"] == "finished"
    engine.dispose()
