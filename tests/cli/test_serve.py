"""zap serve: real sockets, several workers, clean ends."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from servers import until
from sqlalchemy import create_engine, text, update

from zap.db.schema import upgrade
from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import load_version, production_version
from zap.ml.fitted import sha256
from zap.ml.sample import sample_history
from zap.settings import Settings

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
JSON = {"Content-Type": "application/json"}


def logged(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT prediction_id, input_id, model_version FROM predictions WHERE source = 'inference'")
        ).all()
    engine.dispose()
    return [tuple(row) for row in found]


def test_it_works_with_two_workers(serve, trained, good_request):
    server = serve(trained, "--workers", "2", anew=trained.url.get_backend_name() == "postgresql").wait()

    answers = [httpx.post(f"{server.url}/predict", json=good_request).json() for _ in range(20)]

    expected = [(answer["prediction_id"], answer["input_id"], answer["model_version"]) for answer in answers]
    assert sorted(logged(trained)) == sorted(expected)
    assert server.stop()[0] == 0


def test_every_worker_knows_a_reported_and_a_removed_session_within_two_seconds(serve, trained, good_request):
    server = serve(trained, "--workers", "2").wait()
    request = good_request | {"user_id": "sample-1-00003"}

    def known():
        # A connection of its own each time, so that both workers are asked.
        return httpx.post(f"{server.url}/predict", json=request).json()["history_sessions"]

    (before,) = {known() for _ in range(20)}
    session = {
        "session_id": 900001, "user_id": "sample-1-00003", "charger_type": "Level 1",
        "charging_start_time": "2024-06-01T12:00:00",
    }  # fmt: skip
    assert httpx.post(f"{server.url}/charging-sessions", json=session).status_code == 200
    time.sleep(2)
    assert {known() for _ in range(40)} == {before + 1}

    assert httpx.delete(f"{server.url}/charging-sessions/900001").status_code == 204
    time.sleep(2)
    assert {known() for _ in range(40)} == {before}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_nothing_that_was_answered(serve, trained_sqlite, good_request, workers):
    server = serve(trained_sqlite, "--workers", workers, anew=workers == "2").wait()
    answers, stopped = [], threading.Event()

    def ask():
        with httpx.Client() as client:
            while not stopped.is_set():
                try:
                    reply = client.post(f"{server.url}/predict", json=good_request)
                except httpx.TransportError:
                    return
                if reply.status_code == 200:
                    answers.append(reply.json()["prediction_id"])
                # Hundreds of requests each second, and the rest of the machine for other tests.
                stopped.wait(0.01)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) > 20)
    _, seconds = server.stop()
    stopped.set()
    for thread in threads:
        thread.join()

    # Five seconds for replies, and room for a machine three times slower.
    assert seconds < 24
    assert set(answers) <= {row[0] for row in logged(trained_sqlite)}


def test_sigterm_ends_a_training_and_leaves_nothing_of_it(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite).wait()
    # The training is still running when the signal comes.
    long = {"hyper_parameters": {"n_estimators": 10_000, "num_leaves": 200}}
    thread = threading.Thread(target=train_in_vain, args=[server], kwargs=long)
    thread.start()
    wait_for_a_running_training(trained_sqlite)
    _, seconds = server.stop()
    thread.join()

    # It gives itself three seconds; a machine may be three times slower, and its server has replies to wait for.
    assert seconds < 25
    server = serve(trained_sqlite).wait()
    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 1
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM predictions WHERE model_version > 1")) == 0
        assert connection.scalars(text("SELECT status FROM training_runs ORDER BY run_id")).all() == [
            "finished",
            "cancelled",
        ]
    engine.dispose()


def wait_for_a_running_training(settings, seconds=120):
    engine = create_engine(settings.database_url)
    end = time.monotonic() + seconds
    with engine.connect() as connection:
        while not connection.scalar(text("SELECT count(*) FROM training_runs WHERE status = 'running'")):
            assert time.monotonic() < end
            connection.rollback()
            time.sleep(0.05)
    engine.dispose()


def train_in_vain(server, **body):
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"{server.url}/train-model", json=body, timeout=100).raise_for_status()


def multiply_history(settings, times):
    engine = create_engine(settings.database_url)
    with engine.begin() as connection:
        columns = [
            row[1]
            for row in connection.execute(text('PRAGMA table_info("ChargingSessions")'))
            if row[1] != "session_id"
        ]
        names = ", ".join(columns)
        connection.execute(
            text(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {times})"
                f' INSERT INTO "ChargingSessions" ({names}) SELECT {names} FROM "ChargingSessions", n'
            )
        )
    engine.dispose()


def test_kill_in_the_middle_of_a_training_leaves_nothing_of_it(serve, trained_sqlite, good_request):
    # Neither the server nor the training can clean up. The next server does.
    server = serve(trained_sqlite, child_trainings=True).wait()
    multiply_history(trained_sqlite, times=10)
    quick = {"hyper_parameters": {"n_estimators": 3}}
    thread = threading.Thread(target=train_in_vain, args=[server], kwargs=quick)
    thread.start()
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        while not connection.scalar(text("SELECT count(*) FROM predictions WHERE model_version = 2")):
            connection.rollback()
            time.sleep(0.02)
    kill_tree(server)
    thread.join()
    server.process.wait()

    server = serve(trained_sqlite).wait()

    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 1
    with engine.connect() as connection:
        end = time.monotonic() + 45
        while connection.scalar(text("SELECT count(*) FROM model_versions")) > 1:
            assert time.monotonic() < end
            connection.rollback()
            time.sleep(0.05)
        assert connection.scalar(text("SELECT count(*) FROM predictions WHERE model_version = 2")) == 0
        assert connection.scalars(text("SELECT status FROM training_runs ORDER BY run_id")).all() == [
            "finished",
            "failed",
        ]
    engine.dispose()


def kill_tree(server):
    children = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    for child in children:
        os.kill(child, signal.SIGKILL)


def test_bootstrap_makes_everything_and_a_second_run_changes_nothing(serve, tmp_path):
    # A follower would go on writing.
    database = f"sqlite:///{tmp_path / 'data' / 'zap.sqlite'}"
    settings = Settings(database_url=database, models_dir=tmp_path / "models", follow=False)
    server = serve(settings, "--bootstrap", anew=True).wait(120)
    # README shows what the first two requests are answered.
    asked = re.findall(r"/predict [^\n]*-d '(.*?)'\n```\n\n.*?```json\n(.*?)```", README, re.DOTALL)
    assert len(asked) == 2
    for sent, reply in asked:
        answer, shown = httpx.post(f"{server.url}/predict", content=sent, headers=JSON).json(), json.loads(reply)
        assert answer.pop("probabilities") == pytest.approx(shown.pop("probabilities"), abs=0.02)
        assert answer == shown
    # /docs names what is there: the driver of README, the first training, its version, and a prediction that it logged.
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    example, *_ = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"].values()
    assert httpx.post(f"{server.url}/predict", json=example["value"]).json()["history_sessions"] == 133
    for path, methods in paths.items():
        numbers = {
            one["name"]: one["example"] for one in methods.get("get", {}).get("parameters", ()) if "example" in one
        }
        if "get" in methods:
            # There is no trial yet.
            expected = 404 if path.startswith("/trials/") else 200
            assert httpx.get(f"{server.url}{path.format(**numbers)}").status_code == expected, path
    assert_close_to_what_is_reachable(httpx.get(f"{server.url}/training-runs/1").json()["report"])
    server.stop()
    assert "synthetic" in server.log()
    before = dump(settings)

    server = serve(settings, "--bootstrap").wait(90)

    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    server.stop()
    assert dump(settings) == before


def assert_close_to_what_is_reachable(report):
    """The sample knows the true probabilities of its sessions, so the best scores of any model are known too."""
    sample = sample_history()
    last = slice(report["trained_samples"], None)
    best, unseen = sample.reachable(last), sample.reachable_without_present(last)
    assert 0.97 * best.accuracy <= report["accuracy"] <= 1.01 * best.accuracy
    assert 0.99 * best.log_loss <= report["log_loss"] <= 1.05 * best.log_loss
    # No model can score so well without knowledge of the present.
    assert report["log_loss"] < unseen.log_loss
    assert report["beats_baseline"]
    for baseline in report["baselines"].values():
        assert report["test_f1_score"] > baseline["weighted_f1"]
        assert report["macro_f1"] > baseline["macro_f1"]
        assert report["log_loss"] < baseline["log_loss"]


def dump(settings):
    connection = sqlite3.connect(settings.url.database)
    # A server counts also the requests of this test.
    lines = [line for line in connection.iterdump() if '"serving_counts"' not in line]
    connection.close()
    return lines


def test_sigterm_while_bootstrap_trains_ends_the_training_too(serve, trained_sqlite):
    multiply_history(trained_sqlite, times=30)
    with sqlite3.connect(trained_sqlite.url.database) as database:
        database.execute("UPDATE model_versions SET status = 'archived'")
    database.close()
    server = serve(trained_sqlite, "--bootstrap", anew=True)
    wait_for_a_running_training(trained_sqlite)

    code, seconds = server.stop()

    assert code == 143
    # It gives itself three seconds; a machine may be three times slower, and its server has replies to wait for.
    assert seconds < 25
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT status FROM training_runs ORDER BY run_id")).all() == [
            "finished",
            "cancelled",
        ]
    engine.dispose()


def test_bootstrap_trains_where_the_model_in_production_is_of_other_code(serve, trained_sqlite, good_request):
    # An upgrade of zap may bring other features.
    engine = create_engine(trained_sqlite.database_url)
    model = load_version(engine, production_version(engine))
    # The model names one column of another matrix first.
    artefact = replace(model, columns=(model.columns[1], model.columns[0], *model.columns[2:])).to_bytes()
    with engine.begin() as connection:
        stored = {"artefact": artefact, "sha256": sha256(artefact), "columns": None, "golden": None}
        connection.execute(update(ModelVersion.__table__).values(stored))
    engine.dispose()

    server = serve(trained_sqlite, "--bootstrap").wait(120)

    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 2
    assert "read other columns than it names" in server.log()


def test_bootstrap_serves_a_history_that_is_too_little_to_train_on(serve, tmp_path, good_request):
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=tmp_path / "models")
    upgrade(settings.database_url)
    with sqlite3.connect(tmp_path / "zap.sqlite") as database:
        database.execute("INSERT INTO ChargingSessions (charger_type) VALUES ('Level 2')")
    database.close()

    server = serve(settings, "--bootstrap").wait()

    refused = httpx.post(f"{server.url}/predict", json=good_request)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:zap:problem:no-model")
    assert "no model yet" in server.log()


def test_plain_serve_only_upgrades_and_says_so(serve, empty_database_url, tmp_path, good_request):
    settings = Settings(database_url=empty_database_url, models_dir=tmp_path / "models")
    server = serve(settings, anew=settings.url.get_backend_name() == "sqlite").wait()

    assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 503
    assert httpx.get(f"{server.url}/health/ready").json()["checks"]["database"] == "ok"
    server.stop()
    assert "upgraded" in server.log()
    assert not (tmp_path / "models" / "production_model.joblib").exists()


def test_a_host_that_others_reach_is_warned_about(serve, trained_sqlite):
    server = serve(trained_sqlite, "--host", "0.0.0.0").wait()

    server.stop()
    assert "ZAP_API_KEY is not set" in server.log()


def test_a_database_that_is_newer_than_the_code_and_does_not_fit_it_is_refused(serve, trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE tunings RENAME TO searches"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    server = serve(trained_sqlite)

    assert server.process.wait(90) == 17
    assert "newer" in server.log()
    assert "Traceback" not in server.log()


def test_a_port_that_is_taken_is_told_before_anything_is_trained(serve, tmp_path):
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=tmp_path / "models")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(settings, "--bootstrap", "--port", str(taken.getsockname()[1]), anew=True)

        assert server.process.wait(60) == 3

    assert "zap cannot listen on 127.0.0.1" in server.log()
    assert "on http://" not in server.log()
    assert "Traceback" not in server.log()
    with sqlite3.connect(tmp_path / "zap.sqlite") as database:
        assert database.execute("SELECT count(*) FROM ChargingSessions").fetchone() == (0,)
    database.close()


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_every_line_of_a_server_and_its_training_is_json(serve, trained_sqlite, workers):
    server = serve(trained_sqlite, "--workers", workers, "--port", "0", anew=True)
    address = re.compile(r"zap \S+ on (http://127.0.0.1:\d+), docs at /docs")
    end = time.monotonic() + 90
    while not (found := address.search(server.log())):
        assert time.monotonic() < end, server.log()
        time.sleep(0.05)
    # The line is true: the server answers at once, under the port that the system has chosen.
    url = found[1]
    assert httpx.get(f"{url}/health/live").status_code == 200
    reply = httpx.post(f"{url}/train-model", json={"hyper_parameters": {"n_estimators": 3}}, timeout=120)
    assert reply.status_code == 200
    unusable = {"history_to": "2020-01-01T00:00:00"}
    assert httpx.post(f"{url}/train-model", json=unusable, timeout=120).status_code == 422

    assert server.stop()[0] == 0

    lines = [json.loads(line) for line in server.log().splitlines()]
    began = [line for line in lines if line["event"] == "a training began"]
    ended = [line for line in lines if line["event"] == "a training ended"]
    assert [line["run_id"] for line in began] == [2, 3]
    assert began[0]["options"] == {"hyper_parameters": {"n_estimators": 3}}
    assert [(line["run_id"], line["status"]) for line in ended] == [(2, "finished"), (3, "failed")]
    assert ended[0]["seconds"] > 0
    assert ended[0]["model_version"] == 2
    assert ended[0]["promotion"]["promoted"] is True
    assert [ended[0][name] for name in ("test_f1_score", "log_loss", "verdict")] == [
        reply.json()[name] for name in ("test_f1_score", "log_loss", "verdict")
    ]
    assert "usable sessions" in ended[1]["reason"]
    phases = [line["phase"] for line in lines if line.get("run_id") == 2 and "phase" in line]
    assert phases == ["read", "clean", "features", "fit", "evaluate", "save", "log"]


def test_the_log_is_one_json_object_a_line(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite).wait()
    httpx.post(f"{server.url}/predict", json={}, headers={"X-Request-ID": "find-me"})

    server.stop()

    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    assert any(line.get("request_id") == "find-me" and line["status"] == 422 for line in lines)


@pytest.mark.parametrize("change", ["swapped", "emptied", "deleted"])
def test_a_model_file_that_zap_did_not_write_is_never_unpickled(serve, trained_sqlite, good_request, tmp_path, change):
    # The strange file is a pickle that would leave a mark. The bytes of the database replace it.
    good = trained_sqlite.model_file.read_bytes()
    mark = tmp_path / "unpickled"
    strange = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode() if change == "swapped" else b""
    trained_sqlite.model_file.write_bytes(strange)
    if change == "deleted":
        trained_sqlite.model_file.unlink()

    server = serve(trained_sqlite).wait()

    assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200
    assert trained_sqlite.model_file.read_bytes() == good
    assert not mark.exists()
    assert httpx.get(f"{server.url}/health/ready").json()["model_file_restored"]["model_version"] == 1
    assert "restored the model file from the database" in server.log()
    aside = list(trained_sqlite.models_dir.glob("*.not-zap-*"))
    assert [file.read_bytes() for file in aside] == ([strange] if change == "swapped" else [])
    # The same while it serves.
    trained_sqlite.model_file.write_bytes(b"strange")
    deadline = time.monotonic() + 10
    while trained_sqlite.model_file.read_bytes() != good and time.monotonic() < deadline:
        time.sleep(0.05)
    assert trained_sqlite.model_file.read_bytes() == good


@pytest.mark.parametrize("what", ["pipe", "folder", "lock"])
def test_a_models_folder_that_blocks_is_in_nobodys_way(serve, trained_sqlite, good_request, what):
    # The folder delays neither the start, nor a training and its promotion, nor the end.
    file = trained_sqlite.model_file
    lock = Path(f"{file}.lock").open("w")  # noqa: SIM115 - held to the end
    fcntl.flock(lock, fcntl.LOCK_EX if what == "lock" else fcntl.LOCK_UN)
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()

    server = serve(trained_sqlite).wait()
    quick = {"hyper_parameters": {"n_estimators": 3}}
    trained = httpx.post(f"{server.url}/train-model", json=quick, timeout=120)
    back = httpx.post(f"{server.url}/models/rollback", timeout=60)

    assert (trained.status_code, back.status_code) == (200, 200)
    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 1
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    assert not file.is_file()
    assert server.stop()[1] < 15
    assert "the models folder does not answer" in server.log() or "the model file cannot be written" in server.log()
    lock.close()


def test_uvicorn_alone_serves_a_database_at_head(trained_sqlite, serve, good_request):
    server = serve(trained_sqlite, module=("uvicorn", "--factory", "zap.app:create_app", "--port"))

    assert httpx.post(f"{server.wait().url}/predict", json=good_request).status_code == 200


def test_uvicorn_alone_refuses_another_database_and_names_the_command(trained_sqlite, tmp_path):
    environment = (
        os.environ | trained_sqlite.environment() | {"ZAP_DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite'}"}
    )
    command = [sys.executable, "-m", "uvicorn", "--factory", "zap.app:create_app", "--port", "0"]

    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert refused.returncode != 0
    assert "zap db upgrade" in refused.stderr
    assert not (tmp_path / "new.sqlite").exists()


def test_a_copy_of_the_real_database_is_served(serve, zapapp_database, tmp_path):
    path = tmp_path / "zapapp.sqlite"
    shutil.copy(zapapp_database, path)
    path.chmod(0o644)
    settings = Settings(database_url=f"sqlite:///{path}", models_dir=tmp_path / "models")

    server = serve(settings).wait()

    record = httpx.get(f"{server.url}/predictions/3565").json()
    assert record["source"] in {"train", "inference"}
    assert "+00:00" not in record["prediction_timestamp"]
    server.stop()
    assert "before-zap" in server.log()
