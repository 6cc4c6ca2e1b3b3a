"""A training that is told to stop: its end is certain and soon, also where its main thread hears nothing."""

import os
import signal
import stat
import subprocess
import sys
import time

import httpx
import pytest

from zap.db.engine import create_engine, write_transaction
from zap.db.runs.dead_runs import end_lapsed_runs
from zap.db.runs.training_runs import claim_run, read_run, running_run

# Three times what a training gives itself (2 s to clean up, 1 s to say why), and the time that Python takes to start.
SLOW_MACHINE_SECONDS = 15
TRAIN = "from zap.cli import main; main(['train'])"
# One call in C that takes minutes: no handler of a signal runs before its end.
BUSY = (
    "import hashlib, zap.flows.training as t\n"
    "t.read_history = lambda _: hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
)
# An error that a handler raises here is lost.
DEAF = (
    "import time, zap.flows.training as t\n"
    "class Deaf:\n"
    "    def __del__(self): time.sleep(3)\n"
    "def read(_):\n"
    "    Deaf()\n"
    "    time.sleep(600)\n"
    "t.read_history = read\n"
)


@pytest.fixture
def train():
    """Starts a training in a process of its own, with Python code before it, and waits until it reads the history."""
    children = []

    def start(settings, before="", sigint="default_int_handler"):
        # Whoever has started the tests may ignore it.
        heard = f"import signal; signal.signal(signal.SIGINT, signal.{sigint})"
        code, environment = f"{heard}\n{before}\n{TRAIN}", os.environ | settings.environment()
        children.append(
            subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        )
        engine = create_engine(settings.database_url)
        end = time.monotonic() + 90
        while (run := running_run(engine)) is None or read_run(engine, run)["heartbeat_at"] is None:
            assert time.monotonic() < end
            assert children[-1].poll() is None, children[-1].stderr.read()
            time.sleep(0.05)
        engine.dispose()
        # Past the claim, in the middle of its work.
        time.sleep(1)
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def last_run(settings):
    engine = create_engine(settings.database_url)
    run = read_run(engine, 2)
    engine.dispose()
    return run["status"], (run["report"] or {}).get("detail")


@pytest.mark.parametrize(
    ("database", "before", "sig"),
    [("sqlite", BUSY, signal.SIGTERM), ("postgresql", BUSY, signal.SIGINT), ("sqlite", DEAF, signal.SIGTERM)],
    ids=["busy, sqlite", "busy, postgresql", "deaf"],
)
def test_a_training_that_hears_no_signal_ends_all_the_same(request, train, database, before, sig):
    trained = request.getfixturevalue(f"trained_{database}")
    child = train(trained, before)

    child.send_signal(sig)

    assert child.wait(SLOW_MACHINE_SECONDS) == 128 + sig
    assert "the training was told to stop" in child.stderr.read()
    assert last_run(trained) == ("cancelled", "the training was told to stop; the version in production is unchanged")


def test_a_training_that_waits_for_another_writer_ends_all_the_same(trained_sqlite, train):
    # Its run cannot be marked while another process writes. The next process finds at once that the run is dead.
    child = train(trained_sqlite, BUSY)
    engine = create_engine(trained_sqlite.database_url)

    with write_transaction(engine):
        child.terminate()
        assert child.wait(SLOW_MACHINE_SECONDS) == 143

    assert end_lapsed_runs(engine) == [2] or last_run(trained_sqlite)[0] == "cancelled"
    assert claim_run(engine, "train", {}) == 3
    engine.dispose()


def test_a_training_that_waits_to_begin_ends_all_the_same(trained_sqlite):
    # Such a training holds no run yet.
    engine = create_engine(trained_sqlite.database_url)
    with write_transaction(engine):
        child = subprocess.Popen(
            [sys.executable, "-m", "zap", "train", "--no-upgrade"], env=os.environ | trained_sqlite.environment(),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(3)
        assert child.poll() is None
        child.terminate()
        assert child.wait(SLOW_MACHINE_SECONDS) == 143
    assert running_run(engine) is None
    engine.dispose()


def test_a_process_that_ignores_sigint_goes_on_ignoring_it(trained_sqlite, train):
    child = train(trained_sqlite, BUSY, "SIG_IGN")

    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(4)

    child.terminate()
    assert child.wait(SLOW_MACHINE_SECONDS) == 143


BOOTSTRAP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from zap.cli.serving import _train_in_child
from zap.settings import read_settings
sys.executable = sys.argv[1]
print("waits", flush=True)
sys.exit(f"it would serve now: {_train_in_child(read_settings())}")
"""


@pytest.mark.parametrize(
    ("seconds", "sig"),
    [(2, signal.SIGTERM), pytest.param(2, signal.SIGINT, marks=pytest.mark.long), (600, signal.SIGTERM)],
    ids=["finishes just then", "the same with SIGINT", "never ends"],
)
def test_a_server_that_is_told_to_stop_while_it_trains_never_serves(trained_sqlite, tmp_path, seconds, sig):
    # The training may finish at that moment, or never end.
    deaf = tmp_path / "deaf"
    deaf.write_text(f"#!{sys.executable}\nimport signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n"
                    f"open({str(tmp_path / 'began')!r}, 'w').close()\ntime.sleep({seconds})\n")  # fmt: skip
    deaf.chmod(deaf.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen(
        [sys.executable, "-c", BOOTSTRAP, deaf], env=os.environ | trained_sqlite.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not (tmp_path / "began").exists():
        assert time.monotonic() < end
        time.sleep(0.05)

    server.send_signal(sig)

    assert server.wait(3 * SLOW_MACHINE_SECONDS) == 128 + sig
    assert "it would serve now" not in server.communicate()[1]


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_a_server_whose_starter_ignores_sigint_serves_and_ends(serve, trained_sqlite, good_request, workers):
    # nohup and some supervisors ignore SIGINT.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = serve(trained_sqlite, "--workers", workers, anew=True).wait()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200

    _, seconds = server.stop(seconds=60)

    assert seconds < 3 * 8
    assert "Traceback" not in server.log()
