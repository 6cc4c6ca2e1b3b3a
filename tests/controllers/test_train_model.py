"""POST /train-model: one training at a time, in a process of its own, and an honest report."""

import json
import os
import threading
import time
from pathlib import Path

import msgspec
import pytest
from conftest import client_of, counted
from histories import all_but_first
from pydantic import SecretStr
from servers import trainings
from sqlalchemy import delete, text, update

from zap.controllers.training_runs import RunDetail
from zap.db.engine import create_engine, write_transaction
from zap.db.runs.training_runs import claim_run
from zap.db.tables import ChargingSession, ModelVersion, Prediction, Promotion, TrainingRun, Tuning
from zap.flows.training_report import TrainReply
from zap.ml.baselines import BASELINES
from zap.ml.fitted import FittedModel, sha256
from zap.ml.gate import WORSE_THAN_BASELINE
from zap.ml.verdict import sample_in_words

QUICK = {"hyper_parameters": {"n_estimators": 10}}


# With the default options, so one engine is enough: the other tests train on each engine.
@pytest.mark.parametrize("trained", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_it_works(new_processes, client, good_request, rows):
    before = counted(client.app, Prediction)

    reply = client.post("/train-model")

    assert reply.status_code == 200
    report = reply.json()
    msgspec.convert(report, TrainReply, strict=True)
    assert set(report) == set(TrainReply.__struct_fields__)
    sessions = counted(client.app, ChargingSession)
    assert report["status"] == "success"
    assert report["trained_samples"] == int(sessions * 0.9)
    assert report["trained_samples"] + report["test_samples"] == sessions
    assert report["model_version"] == 2
    assert report["synthetic_sessions"] == sessions
    assert "synthetic" in report["message"]
    assert set(report["phases"]) == {"read", "clean", "features", "fit", "evaluate", "save", "log"}
    assert set(report["baselines"]) == set(report["baseline_differences"]) == set(BASELINES)
    assert report["verdict"] in {"better", "not_shown", "worse"}
    assert report["judged"]["sessions"] == report["test_samples"]
    assert report["hyper_parameters_from"] == "defaults"
    assert report["windows"] is None
    assert report["estimator"] == "blend"
    assert 0 < report["logistic_weight"] < 1
    assert list(report["parts"]) == ["trees", "logistic", "blend"]
    assert report["log_loss"] == report["parts"]["blend"]["log_loss"]
    assert report["log_loss"] < max(part["log_loss"] for part in report["parts"].values())
    # Each training row is logged, with what the driver really used.
    logged = rows(client.app, Prediction)[before:]
    assert len(logged) == report["trained_samples"]
    assert {(row["source"], row["model_version"], row["input_id"]) for row in logged} == {("train", 2, None)}
    assert all(row["actual_class"] for row in logged)
    assert all(row["predicted_class"] == max(row["probabilities"], key=row["probabilities"].get) for row in logged)
    # The worker that answered serves it at once.
    assert client.post("/predict", json=good_request).json()["model_version"] == 2
    # The file is an export of the version's bytes, usable without zap's server.
    version = rows(client.app, ModelVersion)[-1]
    exported = client.app.state.settings.model_file.read_bytes()
    assert (version["status"], version["file_sha256"]) == ("production", sha256(exported))
    assert [row["status"] for row in rows(client.app, ModelVersion)] == ["archived", "production"]
    assert list(FittedModel.from_bytes(version["artefact"], version["sha256"]).classes) == report["classes"]
    run = rows(client.app, TrainingRun)[-1]
    assert (run["run_id"], run["status"], run["report"]) == (report["training_run"], "finished", report)
    assert report["promotion"]["promoted"] is True


def test_the_same_history_gives_the_same_trees(sqlite_client, rows):
    # With the hyper-parameters of the version that is there.
    sqlite_client.post("/train-model", json={"hyper_parameters": {"n_estimators": 60}})

    first, second = (
        FittedModel.from_bytes(row["artefact"], row["sha256"]) for row in rows(sqlite_client.app, ModelVersion)
    )

    assert first.scorer == second.scorer


def test_a_second_training_is_refused_while_one_runs(client):
    replies = []

    def post():
        replies.append(client.post("/train-model", json=QUICK))

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(reply.status_code for reply in replies) == [200, 409]
    refused = next(reply for reply in replies if reply.status_code == 409)
    assert refused.json()["type"] == "urn:zap:problem:training-running"


def test_a_training_of_another_process_is_noticed_at_once(client, good_request):
    running = claim_run(client.app.state.engine, "train", {})

    start = time.perf_counter()
    refused = client.post("/train-model")
    quick = time.perf_counter() - start

    assert refused.status_code == 409
    assert refused.json()["training_run"] == f"/training-runs/{running}"
    # Without a process of its own: that takes longer than this by far.
    assert quick < 1
    assert client.post("/predict", json=good_request).status_code == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (delete(ChargingSession), "0 usable sessions"),
        (all_but_first(30), "30 usable sessions"),
        (update(ChargingSession).values(charger_type="Level 2"), "only one charger type, 'Level 2'"),
    ],
)
def test_a_history_that_is_not_enough_leaves_the_old_model_serving(client, good_request, rows, change, says):
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(change)
    before = counted(client.app, Prediction)

    reply = client.post("/train-model")

    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert says in reply.json()["detail"]
    assert client.post("/predict", json=good_request).json()["model_version"] == 1
    assert counted(client.app, Prediction) == before + 1
    run = rows(client.app, TrainingRun)[-1]
    assert run["status"] == "failed"
    assert says in run["report"]["detail"]


def test_a_table_that_is_not_there_is_named(client, good_request):
    with client.app.state.engine.begin() as connection:
        connection.execute(text('DROP TABLE "Vehicles"'))

    reply = client.post("/train-model")

    assert reply.status_code == 422
    assert "no table Vehicles" in reply.json()["detail"]
    assert client.post("/predict", json=good_request).json()["model_version"] == 1


def test_without_a_history_it_says_what_is_missing(untrained_client):
    reply = untrained_client.post("/train-model")

    assert reply.status_code == 422
    assert "ChargingSessions" in reply.json()["detail"]
    assert "import-history" in reply.json()["detail"]


def test_predictions_go_on_while_a_training_runs(client, good_request):
    # Predictions go on while the training logs its rows too, because its transactions are short.
    done = threading.Event()
    slowest, versions = 0.0, set()

    def post():
        client.post("/train-model", json={"hyper_parameters": {"n_estimators": 50}})
        done.set()

    trainer = threading.Thread(target=post)
    trainer.start()
    while not done.is_set():
        start = time.perf_counter()
        reply = client.post("/predict", json=good_request)
        slowest = max(slowest, time.perf_counter() - start)
        assert reply.status_code == 200
        versions.add(reply.json()["model_version"])
        time.sleep(0.05)
    trainer.join()

    assert versions >= {1}
    # SQLite gives up on a lock after five seconds; nothing may come near that.
    assert slowest < 2.5


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        # What a training is asked for with an empty object, test_audit.py asks for.
        (b'{"rounds": 5}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{", "application/json", 400),
        (b"[" * 20_000, "application/json", 400),
        (b'{"windows": 1}', "application/json", 422),
        (b'{"windows": null}', "application/json", 422),
        (b'{"windows": true, "windows": true}', "application/json", 422),
        (b'{"tune": false, "windows": false, "hyper_parameters": {"n_estimators": 5}}', "application/json", 200),
        (b"x=1", "application/x-www-form-urlencoded", 415),
        (b" " * 70_000, "application/json", 413),
    ],
)
def test_a_body_is_read_strictly(shared_client, body, content_type, status):
    reply = shared_client.post("/train-model", content=body, headers={"Content-Type": content_type})

    assert reply.status_code == status
    if status != 200:
        assert reply.headers["content-type"] == "application/problem+json"


def test_rolling_windows_are_run_when_they_are_asked_for(sqlite_client):
    reply = sqlite_client.post("/train-model", json=QUICK | {"windows": True})

    report = reply.json()
    msgspec.convert(report, TrainReply, strict=True)
    windows = report["windows"]
    sessions = counted(sqlite_client.app, ChargingSession)
    assert [window["trained_samples"] for window in windows["each"]] == [
        int(round(sessions * share, 6)) for share in (0.5, 0.6, 0.7, 0.8, 0.9)
    ]
    assert windows["test_samples"] == sum(window["test_samples"] for window in windows["each"])
    assert windows["each"][-1]["log_loss"] == report["log_loss"]
    assert windows["each"][-1]["parts"] == report["parts"]
    assert list(windows["parts"]) == ["trees", "logistic", "blend"]
    assert report["beats_baseline"] == windows["beats_baseline"]
    assert "rolling windows" in report["message"]
    assert "windows" in report["phases"]


def test_what_a_search_found_is_used_and_named(sqlite_client, rows):
    # A search over little history is soon over.
    with write_transaction(sqlite_client.app.state.engine) as connection:
        connection.execute(all_but_first(300))

    reply = sqlite_client.post("/train-model", json=QUICK | {"tune": True})

    assert reply.status_code == 200
    report = reply.json()
    (tuning,) = rows(sqlite_client.app, Tuning)
    assert report["hyper_parameters_from"] == f"tuning {tuning['tuning_id']}, and the request: n_estimators"
    assert report["hyper_parameters"].items() >= tuning["hyper_parameters"].items()
    assert tuning["evidence"]["log_loss"] <= tuning["evidence"]["default_log_loss"]
    assert rows(sqlite_client.app, ModelVersion)[-1]["hyper_parameters"] == report["hyper_parameters"]
    assert report["test_sessions_seen_by_search"] == 0
    # The next training uses it too; sessions that the search has seen flatter it, and the reply says so.
    more = sqlite_client.post("/train-model", json=QUICK | {"test_share": 0.3}).json()
    assert more["hyper_parameters"] == report["hyper_parameters"]
    assert more["test_sessions_seen_by_search"] == pytest.approx(more["test_samples"] * 2 / 3, abs=2)
    assert "these scores are too good" in more["message"]
    assert rows(sqlite_client.app, ModelVersion)[-1]["tuned_until"].isoformat() == tuning["evidence"]["seen_until"]


def test_the_report_is_json_that_any_client_reads(sqlite_client):
    text = sqlite_client.post("/train-model", json=QUICK).text

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_trees_alone_are_fitted_when_they_are_asked_for(sqlite_client, good_request):
    both, alone = (
        sqlite_client.post("/train-model", json=QUICK | {"estimator": name}).json() for name in ("blend", "lightgbm")
    )

    assert (alone["estimator"], alone["logistic_weight"]) == ("lightgbm", 0)
    # The trees are equal, and each report says what the trees, the logistic regression and the blend are worth.
    assert both["parts"] == alone["parts"]
    assert set(alone["parts"]) == {"trees", "logistic", "blend"}
    assert (alone["log_loss"], both["log_loss"]) == tuple(
        alone["parts"][name]["log_loss"] for name in ("trees", "blend")
    )
    assert alone["log_loss"] != both["log_loss"]
    assert both["new_driver_weight"] == alone["new_driver_weight"]
    shown = sqlite_client.get(f"/models/{alone['model_version']}").json()
    assert shown["hyper_parameters"]["estimator"] == "lightgbm"
    assert sqlite_client.post("/predict", json=good_request).json()["model_version"] == alone["model_version"]


def test_everything_that_is_known_of_a_version_is_stored(client, rows):
    report = client.post("/train-model", json=QUICK | {"note": "for the record"}).json()

    version = rows(client.app, ModelVersion)[-1]
    assert [name for name, value in version.items() if value is None] == ["tuned_until"]
    assert version["note"] == "for the record"
    assert version["classes"] == report["classes"]
    assert (version["trained_samples"], version["test_samples"]) == (report["trained_samples"], report["test_samples"])
    assert version["evaluation"]["log_loss"] == report["log_loss"]
    assert version["features"][0]["name"] == "state_of_charge_start"
    assert sum(count for count, _ in version["rows_by_month"].values()) == report["trained_samples"]


def test_a_window_of_the_history_and_other_hyper_parameters_can_be_asked_for(sqlite_client, rows):
    asked = {
        "history_from": "2024-01-15", "history_to": "2024-04-01T00:00:00", "test_share": 0.2,
        "hyper_parameters": {"num_leaves": 7, "n_estimators": 20},
    }  # fmt: skip

    report = sqlite_client.post("/train-model", json=asked).json()

    starts = [row["charging_start_time"].isoformat() for row in rows(sqlite_client.app, ChargingSession)]
    inside = sorted(start for start in starts if "2024-01-15" <= start < "2024-04-01")
    assert report["trained_samples"] + report["test_samples"] == len(inside)
    assert report["test_samples"] == pytest.approx(len(inside) * 0.2, abs=1)
    assert report["hyper_parameters"].items() >= asked["hyper_parameters"].items()
    assert report["hyper_parameters_from"] == "defaults, and the request: n_estimators, num_leaves"
    assert "hyper-parameters were not searched on this history. A search usually helps" in report["message"]
    version = rows(sqlite_client.app, ModelVersion)[-1]
    assert version["trained_from"].isoformat() == inside[0]
    assert version["trained_until"].isoformat() == inside[report["trained_samples"] - 1]
    run = rows(sqlite_client.app, TrainingRun)[-1]
    assert run["options"] == asked | {"history_from": "2024-01-15T00:00:00"}


def test_a_version_that_is_not_to_serve_stays_a_candidate(client, good_request, rows):
    file = client.app.state.settings.model_file.read_bytes()

    report = client.post("/train-model", json={"promote": "never", "hyper_parameters": {"n_estimators": 5}}).json()

    assert report["promotion"] == {
        "promoted": False, "reason": "the training was started with promote: never", "comparison": None, "trial": None
    }  # fmt: skip
    assert "stays a candidate" in report["message"]
    assert [row["status"] for row in rows(client.app, ModelVersion)] == ["production", "candidate"]
    assert client.post("/predict", json=good_request).json()["model_version"] == 1
    assert client.app.state.settings.model_file.read_bytes() == file
    assert counted(client.app, Promotion) == 1


def test_if_better_serves_only_what_is_better_on_sessions_that_neither_learned_from(sqlite_client, rows):
    # The usual test part of this history has fewer than 200 sessions. A test share of 0.3 gives enough sessions.
    few = sqlite_client.post("/train-model", json=QUICK | {"promote": "if_better"}).json()
    assert few["promotion"]["promoted"] is False
    assert "at least 200 are needed" in few["promotion"]["reason"]

    # What serves now has learned next to nothing, and from the first seven tenths only.
    weak = {"test_share": 0.3, "estimator": "lightgbm", "hyper_parameters": {"n_estimators": 1}}
    served = sqlite_client.post("/train-model", json=weak).json()
    assert (served["model_version"], served["verdict"], served["promotion"]["promoted"]) == (3, "worse", True)
    worse = sqlite_client.post("/train-model", json=weak | {"promote": "if_better"}).json()
    enough = {"test_share": 0.3, "hyper_parameters": {"n_estimators": 50}}
    better = sqlite_client.post("/train-model", json=enough | {"promote": "if_better"}).json()

    assert worse["promotion"]["promoted"] is False
    assert worse["promotion"]["reason"].startswith("a baseline predicts better")
    comparison = better["promotion"]["comparison"]
    assert comparison["with_version"] == 3
    assert comparison["sessions"] == better["test_samples"]
    assert comparison["candidate_log_loss"] == pytest.approx(better["log_loss"])
    assert comparison["interval"][1] < 0
    assert better["promotion"]["promoted"] is True
    statuses = [row["status"] for row in rows(sqlite_client.app, ModelVersion)]
    assert statuses == ["archived", "candidate", "archived", "candidate", "production"]
    (*_, last) = rows(sqlite_client.app, Promotion)
    assert (last["from_version"], last["to_version"]) == (3, 5)
    assert "log loss" in last["why"]


def test_a_version_that_is_worse_than_the_baseline_serves_and_everybody_is_told(sqlite_client, caplog):
    # Only `if_better` keeps such a version back, even if no version served before.
    weak = {"test_share": 0.3, "estimator": "lightgbm", "hyper_parameters": {"n_estimators": 1}}

    report = sqlite_client.post("/train-model", json=weak).json()

    assert report["promotion"]["promoted"] is True
    assert report["verdict"] == "worse"
    assert "The model is worse than a baseline (" in report["message"]
    assert "The baseline would predict better." in report["message"]
    ready = sqlite_client.get("/health/ready").json()
    assert (ready["status"], ready["model_version"]) == ("ready", 2)
    assert ready["model_warning"].startswith("The model is worse than a baseline (")
    assert "a baseline would predict better" in caplog.text
    (listed, first) = sqlite_client.get("/models").json()["models"]
    assert listed["scores"]["verdict"] == "worse"
    assert listed["scores"]["judged_on"]["sessions"] == report["test_samples"]
    assert listed["scores"]["best_baseline_f1_score"] >= listed["scores"]["test_f1_score"]
    # The way back ends the warning.
    sqlite_client.post("/models/rollback")
    assert first["scores"]["verdict"] != "worse"
    assert sqlite_client.get("/health/ready").json()["model_warning"] == sample_in_words(1)


def test_where_nothing_serves_if_better_promotes_nothing_that_is_worse_than_the_baseline(sqlite_client, good_request):
    with sqlite_client.app.state.engine.begin() as connection:
        connection.execute(update(ModelVersion).values(status="archived"))
    weak = {"test_share": 0.3, "estimator": "lightgbm", "hyper_parameters": {"n_estimators": 1}, "promote": "if_better"}

    report = sqlite_client.post("/train-model", json=weak).json()

    assert report["promotion"] == {
        "promoted": False,
        "reason": WORSE_THAN_BASELINE,
        "comparison": None,
        "trial": None,
    }


@pytest.fixture
def damaged(trained_sqlite):
    """A server whose version in production cannot be loaded."""
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        connection.execute(update(ModelVersion).values(artefact=b"damaged"))
    engine.dispose()
    with client_of(trained_sqlite, raise_server_exceptions=False) as client:
        yield client


def test_where_production_cannot_be_loaded_if_better_promotes_what_can_answer(damaged, good_request):
    assert damaged.post("/predict", json=good_request).status_code == 503

    enough = {"hyper_parameters": {"n_estimators": 50}}
    report = damaged.post("/train-model", json=enough | {"promote": "if_better"}).json()

    assert report["promotion"]["promoted"] is True
    assert report["promotion"]["reason"].startswith("this version can answer, and version 1 cannot be loaded here: ")
    assert damaged.post("/predict", json=good_request).json()["model_version"] == 2


def test_if_better_does_not_replace_a_damaged_version_by_one_that_is_worse_than_the_baseline(damaged):
    weak = {"test_share": 0.3, "estimator": "lightgbm", "hyper_parameters": {"n_estimators": 1}, "promote": "if_better"}

    report = damaged.post("/train-model", json=weak).json()

    assert report["promotion"]["promoted"] is False
    assert report["promotion"]["reason"].startswith("version 1 cannot be loaded here (")
    assert report["promotion"]["reason"].endswith(f"but {WORSE_THAN_BASELINE}")


def test_candidates_that_newer_ones_replaced_are_pruned(trained_sqlite, rows):
    settings = trained_sqlite.model_copy(update={"keep_candidates": 1})
    with client_of(settings) as client:
        for promote in ("always", "never", "never"):
            quick = {"promote": promote, "hyper_parameters": {"n_estimators": 3}}
            assert client.post("/train-model", json=quick).status_code == 200

        versions = rows(client.app, ModelVersion)
        pruned = client.get("/audit", params={"action": "version.prune"}).json()

    kept = [(row["model_version"], row["status"]) for row in versions if row["artefact"] is not None]
    assert kept == [(1, "archived"), (2, "production"), (4, "candidate")]
    assert versions[2]["evaluation"] is not None
    (row,) = pruned["audit"]
    assert (row["subject"], row["after"]) == ("run 4", {"versions": [3]})


def test_who_prefers_not_to_wait_is_told_where_to_look(client):
    reply = client.post("/train-model", json=QUICK, headers={"Prefer": "wait=5, Respond-Async"})

    assert reply.status_code == 202
    assert reply.headers["preference-applied"] == "respond-async"
    run = msgspec.json.decode(reply.content, type=RunDetail)
    assert (run.status, run.options) == ("running", QUICK)
    assert reply.headers["location"] == f"/training-runs/{run.run_id}"
    end = time.monotonic() + 180
    while (found := client.get(reply.headers["location"]).json())["status"] == "running":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert found["status"] == "finished"
    msgspec.convert(found["report"], TrainReply, strict=True)
    while client.get("/health/ready").json()["model_version"] != found["report"]["model_version"]:
        assert time.monotonic() < end
        time.sleep(0.1)


def types_in_one_report(n_types, each):
    """New charger types, as one report of sessions has them."""
    return [
        {
            "session_id": 10_000_000 + number,
            "user_id": f"attacker {number % 50}",
            "charger_type": f"Made up {number % n_types}",
            "charging_start_time": f"2024-04-{number % 28 + 1:02}T{number % 24:02}:00:00",
        }
        for number in range(n_types * each)
    ]


def test_one_report_with_a_hundred_new_types_adds_no_type_to_the_next_model(client):
    assert client.post("/charging-sessions", json=types_in_one_report(100, 4)).status_code == 200

    report = client.post("/train-model", json={"hyper_parameters": {"n_estimators": 5}}).json()

    msgspec.convert(report, TrainReply, strict=True)
    assert report["classes"] == ["DC Fast Charger", "Level 1", "Level 2"]
    left_out = report["left_out_types"]
    assert (left_out["too_few_sessions"]["types"], left_out["too_few_sessions"]["sessions"]) == (100, 400)
    assert len(left_out["too_few_sessions"]["largest"]) == 20
    assert left_out["too_many_types"]["types"] == 0
    assert "400 sessions are neither learned from nor tested on" in report["message"]
    # They are part of their drivers' past all the same.
    asked = {"user_id": "attacker 0", "charging_start_time": "2024-06-01T10:00:00", "user_type": "Commuter"}
    known = {"battery_capacity_kwh": 64, "vehicle_age_years": 2, "state_of_charge_start": 30, "temperature_c": 15}
    answer = client.post("/predict", json=asked | known | {"distance_driven_km": 100}).json()
    assert answer["history_sessions"] == 8


def test_of_many_common_types_a_bounded_number_is_learned(trained_sqlite):
    settings = trained_sqlite.model_copy(update={"most_types": 4, "least_type_share": 0.0})
    with client_of(settings) as client:
        client.post("/charging-sessions", json=types_in_one_report(10, 10))

        report = client.post("/train-model", json={"hyper_parameters": {"n_estimators": 5}}).json()

    assert report["classes"] == ["DC Fast Charger", "Level 1", "Level 2", "Made up 0"]
    assert report["left_out_types"]["too_many_types"]["types"] == 9
    assert "9 types" in report["message"]
    assert "beyond the 4 most frequent ones" in report["message"]


@pytest.mark.parametrize(
    ("limits", "setting"),
    [({"training_memory": 2**28}, "ZAP_TRAINING_MEMORY"), ({"training_seconds": 1.5}, "ZAP_TRAINING_SECONDS")],
)
def test_a_training_that_takes_too_much_fails_with_a_sentence(  # noqa: PLR0917 - fixtures
    new_processes, trained_sqlite, good_request, rows, limits, setting
):
    with client_of(trained_sqlite.model_copy(update=limits)) as client:
        reply = client.post("/train-model", json={"hyper_parameters": {"n_estimators": 5000}})

        assert reply.status_code == 500
        assert reply.headers["content-type"] == "application/problem+json"
        assert setting in reply.json()["detail"]
        run = rows(client.app, TrainingRun)[-1]
        assert run["status"] == "failed"
        assert run["report"].items() <= reply.json().items()
        assert client.post("/predict", json=good_request).json()["model_version"] == 1
        # The way is free.
        assert client.post("/train-model", headers={"Prefer": "respond-async"}).status_code == 202


def test_the_process_of_a_training_does_not_know_the_api_key(new_processes, trained_sqlite, monkeypatch):
    monkeypatch.setenv("ZAP_API_KEY", "a secret that is long enough")
    monkeypatch.setenv("zap_api_key", "a secret that is long enough")
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr("a secret that is long enough")})
    with client_of(settings) as client:
        headers = {"Prefer": "respond-async", "X-API-Key": "a secret that is long enough"}
        assert client.post("/train-model", headers=headers).status_code == 202
        (child,) = trainings(os.getpid())
        environment = Path(f"/proc/{child}/environ").read_bytes()

    assert b"ZAP_DATABASE_URL" in environment
    assert b"secret" not in environment
