"""The benchmark of pages runs, on a small database."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_it_measures_every_page_and_opens_it_in_a_browser(chromium, tmp_path):
    script = Path(__file__).with_name("pages.py")
    command = [sys.executable, script, "--predictions", "500", "--drivers", "20", "--database", tmp_path / "kept"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "500 predictions, 20 drivers" in said
    assert "page                " in said
    assert "\n/ " in said
    assert "KB" in said

    again = subprocess.run([*command, "--browser"], capture_output=True, text=True, check=True).stdout
    assert "made in 0 s" in again
    assert "no errors, no requests elsewhere, and nothing moves" in again
