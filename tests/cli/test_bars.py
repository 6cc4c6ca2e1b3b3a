"""Progress: bars on a terminal, plain lines elsewhere."""

import os
import pty
import subprocess
import sys

CODE = """
from zap.cli.bars import shown_progress
with shown_progress() as progress:
    progress("fit", 0, 200)
    progress("fit", 120, 200, 0.31415)
    progress("log", 0, 5000)
    progress("log", 5000, 5000)
"""


def test_where_nobody_watches_each_thing_is_one_line():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines() == ["fit ...", "log ..."]
    assert done.stdout == ""


def test_on_a_terminal_there_are_bars():
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE], stderr=theirs, env=os.environ | {"TERM": "xterm"}, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            # A pseudo-terminal ends with an error where a file would end with nothing.
            break
    os.close(ours)

    assert b"200/200" in shown
    assert b"5000/5000" in shown
    assert b"log loss 0.314" in shown
    assert "━".encode() in shown
