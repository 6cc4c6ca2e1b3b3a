"""The benchmark of the drivers' pasts runs; its figures are ratios, to be read and not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


def test_it_works():
    script = Path(__file__).with_name("driver_history.py")

    done = subprocess.run(
        [sys.executable, script, "--sessions", "3000", "--drivers", "300", "--rounds", "5"],
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout)
    training, serving = found["training"], found["serving"]
    assert (training["sessions"], training["drivers"], training["fit_rounds"]) == (3000, 300, 5)
    assert training["pass_over_fit"] > 0
    # Memory is what the states are kept for.
    assert serving["from_memory_us"] < serving["from_the_database_us"]
