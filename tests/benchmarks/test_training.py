"""The benchmark of a training runs; its figures are ratios, to be read and not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


def test_it_works():
    script = Path(__file__).with_name("training.py")

    done = subprocess.run(
        [sys.executable, script, "--sessions", "400", "800", "--rounds", "3", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout)
    assert [size["sessions"] for size in found["sizes"]] == [400, 800]
    for size in found["sizes"]:
        assert list(size["phases"]) == ["read", "clean", "features", "fit", "evaluate", "save", "log"]
        assert size["wall"] >= sum(size["phases"].values())
        assert size["peak_mb"] > size["idle_mb"] > 0
        assert size["ratio"] > 0
    assert found["growth"][0]["sessions"] == 2
