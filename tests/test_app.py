"""The application as a whole: what it asks of its process while it serves."""

import gc
import sys

from conftest import client_of

from zap.app import create_app


def test_it_sets_the_interpreter_for_serving_and_leaves_it_as_it_was(trained_sqlite):
    before = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()
    with client_of(trained_sqlite) as client:
        assert client.get("/health/live").status_code == 200
        assert sys.getswitchinterval() < before[0]
        assert gc.get_threshold()[0] > before[1][0]
        assert gc.get_freeze_count() > before[2]
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before


def test_making_it_opens_and_changes_nothing(trained_sqlite, tmp_path):
    before = sorted(tmp_path.rglob("*")), sys.getswitchinterval(), gc.get_threshold()
    create_app(trained_sqlite)
    assert (sorted(tmp_path.rglob("*")), sys.getswitchinterval(), gc.get_threshold()) == before
