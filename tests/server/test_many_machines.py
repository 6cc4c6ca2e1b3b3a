"""Three machines behind nginx on one PostgreSQL, under load: nothing acknowledged is lost, nothing old is answered."""

import shutil
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from conftest import GOOD_REQUEST, absent
from databases import connect
from faults.machines import Changes, Machine, behind_nginx, judged
from faults.nginx import PROGRAM
from faults.steady_load import SteadyLoad
from newer import newer
from own_postgresql import OwnPostgresql, is_installed
from sqlalchemy import create_engine
from trialled import add_copies

from zap.db.schema import upgrade
from zap.flows.database_copy import CopyOptions, copy_database

# A connection that sends a driver of the history, and one that sends nobody.
REQUESTS = [GOOD_REQUEST, GOOD_REQUEST | {"user_id": "sample-1-00003"}]
# The times of one machine are wrong by a minute.
LATER = {"FAKETIME": "+60s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
RECOVERED_SECONDS = 10


@pytest.fixture
def faketime():
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else absent("faketime")


@pytest.fixture
def postgresql(_trained_sqlite, tmp_path):
    """A server of one's own with a trained database of two versions."""
    if not is_installed():
        absent("PostgreSQL's programs")
    with closing(OwnPostgresql().make()) as server:
        assert server.start()
        # The copy is noted in the audit of its source, which other tests share.
        source = f"sqlite:///{shutil.copy(_trained_sqlite / 'zap.sqlite', tmp_path)}"
        upgrade(server.url)
        assert copy_database(source, server.url, CopyOptions(finish=True, force=True, compare_all=True)).finished
        engine = create_engine(server.url)
        add_copies(engine)
        engine.dispose()
        yield server


@pytest.fixture
def machines(postgresql, faketime, tmp_path):
    with ExitStack() as stack:
        variables = [None, None, LATER | {"LD_PRELOAD": faketime}]
        yield [
            stack.enter_context(closing(Machine(postgresql.url, tmp_path / f"models{n}", one)))
            for n, one in enumerate(variables)
        ]


@pytest.mark.long
@pytest.mark.skipif(PROGRAM is None, reason="nginx is not here")
def test_what_happens_to_machines_costs_no_answer(machines, postgresql, tmp_path):
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.server.wait()

    def cut_off():
        machines[0].cut_off(8)

    def restart_postgresql(sign):
        postgresql.stop(sign)
        assert postgresql.start()

    def upgrade_all():
        engine = create_engine(postgresql.url)
        newer(engine)
        engine.dispose()
        for machine in machines:
            machine.restart()

    scenes = {
        "a machine is cut off": cut_off,
        "PostgreSQL restarts": lambda: restart_postgresql(signal.SIGINT),
        "PostgreSQL crashes": lambda: restart_postgresql(signal.SIGQUIT),
        "a newer schema, and one machine after the other": upgrade_all,
    }
    with (
        behind_nginx(machines, tmp_path) as url,
        SteadyLoad(url, REQUESTS) as load,
        Changes(postgresql.url, pause=2.5) as changes,
    ):
        time.sleep(8)
        now = time.monotonic()
        usual = load.p99(now - 6, now)
        recovered = {}
        for name, scene in scenes.items():
            begun = time.monotonic()
            scene()
            ended = time.monotonic()
            while (found := load.recovered(ended, max(2 * usual, 0.25))) is None:
                assert time.monotonic() < ended + RECOVERED_SECONDS + 3, (name, load.p99(ended + 8, ended + 13), usual)
                time.sleep(0.2)
            recovered[name] = found
            print(f"{name}: {ended - begun:.1f} s, recovered after {found:.1f} s")

    with connect(postgresql.url) as connection:
        ahead = connection.execute("SELECT max(request_timestamp) > now() + interval '30 s' FROM inference_inputs")
        assert ahead.fetchone()[0]
    found = judged(load, changes, postgresql.url)
    statuses = {
        status: sum(one.status == status for one in load.replies) for status in {r.status for r in load.replies}
    }
    print(
        f"{len(load.acknowledged()):,} answers, {statuses}, {changes.n} changes,"
        f" p99 {usual:.3f} s, lag {load.lag:.2f} s"
    )
    assert found == dict.fromkeys(found, 0)
    assert max(recovered.values()) <= RECOVERED_SECONDS
    # Each of the machines has answered, and both versions.
    assert {one.answer["model_version"] for one in load.acknowledged()} == {1, 2}
    assert changes.n >= 8
