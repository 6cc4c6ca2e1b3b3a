"""zap serve with several workers while versions change, trainings run, and processes die."""

import json
import os
import signal
import threading
import time

import httpx
import pytest
from servers import is_training, trainings, until
from sqlalchemy import create_engine, insert, select, text

from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import load_version, production_version
from zap.ml.fitted import sha256
from zap.ml.model import ChargerTypeModel

LONG = {"hyper_parameters": {"n_estimators": 10_000, "num_leaves": 200}}
QUICK = {"hyper_parameters": {"n_estimators": 3}}
LONGER = {"hyper_parameters": {"n_estimators": 50}}


@pytest.fixture
def database(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def two_versions(trained, database):
    """A second version, which says something else of drivers of whom nothing is known."""
    model = ChargerTypeModel.from_fitted(load_version(database, production_version(database)))
    model.cold_weight_ = 0.0 if model.cold_weight_ else 1.0
    artefact = model.to_bytes()
    with database.begin() as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
        del row["model_version"]
        other = {"status": "candidate", "artefact": artefact, "sha256": sha256(artefact), "golden": None}
        connection.execute(insert(ModelVersion.__table__), row | other)
    return trained


def ask(database, statement):
    with database.connect() as connection:
        return connection.execute(text(statement)).all()


class Load:
    """Clients that ask for predictions until they are stopped, each on connections of its own."""

    def __init__(self, url, request, clients=4):
        self.answers, self.others = [], []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[url, request]) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url, request):
        while not self._over.is_set():
            # A new connection now and then, so that every worker is asked.
            with httpx.Client(timeout=120) as client:
                for _ in range(10):
                    begun = time.monotonic()
                    reply = client.post(f"{url}/predict", json=request)
                    if reply.status_code == 200:
                        self.answers.append((begun, reply.json()))
                    else:
                        self.others.append(reply.text)
                    # Hundreds of requests each second, and the rest of the machine for other tests.
                    self._over.wait(0.01)


@pytest.mark.parametrize("trained", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_a_promotion_under_load_fails_no_request_and_every_worker_follows(serve, two_versions, database, good_request):
    # A rollback fails no request either. Each answer and each logged row is of the version that it names.
    server = serve(two_versions, "--workers", "3").wait()
    request = good_request | {"charging_start_time": "2024-05-01T18:00:00"}
    changes = []
    with Load(server.url, request) as load:
        for path in ("/models/2/promote", "/models/rollback"):
            time.sleep(2.5)
            reply = httpx.post(f"{server.url}{path}", json={"who": "ann"})
            assert reply.status_code == 200, reply.text
            changes.append(time.monotonic())
        time.sleep(2.5)

    assert load.others == []
    first, second = changes
    for begun, answer in load.answers:
        if first + 2 < begun < second - 1:
            assert answer["model_version"] == 2
        if begun > second + 2:
            assert answer["model_version"] == 1
    said = {1: set(), 2: set()}
    for _, answer in load.answers:
        said[answer["model_version"]].add(tuple(answer["probabilities"].values()))
    # One request, so one answer of each.
    assert [len(probabilities) for probabilities in said.values()] == [1, 1]
    assert said[1] != said[2]
    logged = ask(database, "SELECT prediction_id, model_version FROM predictions WHERE source = 'inference'")
    expected = [(answer["prediction_id"], answer["model_version"]) for _, answer in load.answers]
    assert sorted(map(tuple, logged)) == sorted(expected)


def test_two_servers_on_one_database_serve_one_version(serve, two_versions, good_request, tmp_path):
    # The servers stand for two machines, each with its own model file.
    other = two_versions.model_copy(update={"models_dir": tmp_path / "other"})
    here, there = serve(two_versions).wait(), serve(other).wait()
    before = other.model_file.read_bytes()

    httpx.post(f"{here.url}/train-model", json=QUICK, timeout=120).raise_for_status()

    served = until(
        lambda: httpx.post(f"{there.url}/predict", json=good_request).json()["model_version"] == 3, seconds=2
    )
    assert served
    until(lambda: other.model_file.read_bytes() != before, seconds=2)
    assert other.model_file.read_bytes() == two_versions.model_file.read_bytes()


def test_of_two_trainings_from_two_servers_one_runs(serve, trained, tmp_path):
    servers = [serve(trained).wait(), serve(trained, "--workers", "2").wait()]
    replies = []

    def post(server):
        replies.append(httpx.post(f"{server.url}/train-model", json=LONGER, timeout=120))

    threads = [threading.Thread(target=post, args=[server]) for server in servers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409]
    assert {reply.json()["training_run"] for reply in replies if reply.status_code == 409} == {"/training-runs/2"}


def training_under(server):
    """The pids of the worker that trains and of its training."""
    for worker in [server.process.pid, *server.children()]:
        for training in trainings(worker):
            return worker, training
    return None


def test_a_training_that_is_killed_is_failed_and_the_way_is_free(serve, trained, database, good_request):
    server = serve(trained, "--workers", "2", child_trainings=True).wait()
    location = begin(server)
    _, training = until(lambda: training_under(server))

    os.kill(training, signal.SIGKILL)

    run = until(lambda: ended(server, location), seconds=45)
    assert run["status"] == "failed"
    assert_nothing_is_left(database)
    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 1
    assert httpx.post(f"{server.url}/train-model", json=QUICK, timeout=120).status_code == 200


@pytest.mark.parametrize("trained", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_a_worker_that_is_killed_takes_no_training_with_it(serve, trained, database, good_request):
    # The training goes on. Every worker can report its progress and cancel it.
    server = serve(trained, "--workers", "2", child_trainings=True).wait()
    location = begin(server)
    worker, training = until(lambda: training_under(server))

    os.kill(worker, signal.SIGKILL)

    until(lambda: (followed(server, location)["progress"] or {}).get("phase") == "fit")
    assert is_training(training)
    assert until(lambda: httpx.delete(f"{server.url}{location}").status_code == 200)
    # Two seconds, and room for a machine three times slower.
    until(lambda: not is_training(training), seconds=6)
    until(lambda: nothing_is_left(database), seconds=30)
    assert httpx.post(f"{server.url}/predict", json=good_request).json()["model_version"] == 1


def test_a_machine_that_dies_leaves_a_failed_run_to_the_others(serve, trained, database, tmp_path):
    # One server dies with its training. Another server on this database marks the run as failed within 15
    # seconds.
    dying, other = serve(trained, child_trainings=True).wait(), serve(trained).wait()
    location = begin(dying)
    _, training = until(lambda: training_under(dying))
    os.kill(dying.process.pid, signal.SIGKILL)
    os.kill(training, signal.SIGKILL)
    killed = time.monotonic()

    run = until(lambda: ended(other, location), seconds=45)

    # Fifteen seconds, and room for a machine three times slower.
    assert time.monotonic() - killed < 45
    assert (run["status"], "died" in run["report"]["detail"]) == ("failed", True)
    assert_nothing_is_left(database)


def test_followers_are_let_go_when_the_server_stops(serve, trained_sqlite):
    server = serve(trained_sqlite, "--workers", "2").wait()
    location = begin(server)
    said = []

    def follow():
        with httpx.stream("GET", f"{server.url}{location}/events", timeout=120) as reply:
            said.extend(reply.iter_lines())

    follower = threading.Thread(target=follow)
    follower.start()
    # The stream may begin with a line that only says that the run is still running.
    until(lambda: any(line.startswith("data: {") for line in said))

    _, seconds = server.stop()
    follower.join(15)

    assert not follower.is_alive()
    # Five seconds, and room for a machine three times slower.
    assert seconds < 15
    assert any(json.loads(line.removeprefix("data: "))["phase"] for line in said if line.startswith("data: {"))


def begin(server):
    reply = httpx.post(f"{server.url}/train-model", json=LONG, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return reply.headers["location"]


def followed(server, location):
    try:
        return httpx.get(f"{server.url}{location}").json()
    except httpx.TransportError:
        # A connection of the worker that was killed.
        return {"progress": None, "status": "running"}


def ended(server, location):
    run = followed(server, location)
    return run if run["status"] != "running" else None


def nothing_is_left(database):
    versions = ask(database, "SELECT model_version FROM model_versions")
    logged = ask(database, "SELECT prediction_id FROM predictions WHERE source = 'train' AND model_version > 1")
    return ([tuple(row) for row in versions], list(logged)) == ([(1,)], [])


def assert_nothing_is_left(database):
    assert nothing_is_left(database)
