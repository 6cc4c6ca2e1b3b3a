"""Progress: bars on a terminal, with whole lines of the log above them; plain lines elsewhere."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

CODE = """
from zap.cli.bars import shown_progress
with shown_progress() as progress:
    progress("fit", 0, 200)
    progress("fit", 120, 200, 0.31415)
    progress("log", 0, 5000)
    progress("log", 5000, 5000)
"""
# What a first training does on a terminal: phases, warnings of zap and of libraries from two threads, a search that
# ends early.
LOGGING = """
import logging, threading, time, warnings
import structlog
from zap.cli.bars import shown_progress
from zap.logs import configure_logs
from zap.settings import read_settings
from zap.standard_error import tell
configure_logs(read_settings())
log = structlog.get_logger("zap.test")
with shown_progress() as progress:
    progress("read", 0, 1)
    log.warning("event one", sessions=43076, synthetic=43076)
    progress("fit", 0, 24)
    for done in range(24):
        progress("fit", done + 1, 24, 0.314)
        time.sleep(0.02)
        other = threading.Thread(target=logging.getLogger("library").warning, args=[f"event two {done}"])
        other.start()
        log.info(f"event three {done}")
        other.join()
    progress("tune", 0, 24)
    progress("tune", 19, 24)
    time.sleep(0.3)
    warnings.warn("event four", stacklevel=1)
    tell("event five")
"""


def on_a_terminal(code, columns=80, **environment):
    """Return what code writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs,
        env=plain | {"TERM": "xterm"} | environment,
    ) as child:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                # A pseudo-terminal ends with an error where a file would end with nothing.
                break
    os.close(ours)
    assert child.returncode == 0
    return shown.decode()


def screen(shown, columns):
    """Return the lines that a terminal shows in the end. A line that is longer than the terminal is an error."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", shown):
        if part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b["):
            if part.endswith("A"):
                row -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                rows[row] = ""
        else:
            rows[row] = rows[row].ljust(column)[:column] + part + rows[row][column + len(part) :]
            column += len(part)
            assert column <= columns, rows[row]
    return [line.rstrip() for line in rows]


def test_where_nobody_watches_each_thing_is_one_line():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines() == ["fit ...", "log ..."]
    assert done.stdout == ""


def test_on_a_terminal_there_are_bars():
    shown = on_a_terminal(CODE)

    assert "5000/5000" in shown
    assert "training log loss 0.314" in shown
    assert "━" in shown
    # A phase that ended before all of its parts shows what was done.
    assert "120/200" in shown
    assert "200/200" not in shown


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_of_the_log_tears_a_bar(columns):
    lines = screen(on_a_terminal(LOGGING, columns), columns)

    bars = [line for line in lines if "━" in line or "╺" in line]
    assert [re.sub(r"[ ━╺╸]+", " ", line).split()[:2] for line in bars] == [
        ["read", "1/1"], ["fit", "24/24"], ["tune", "19/24"],
    ]  # fmt: skip
    assert "ended early" in bars[2]
    # The bars are the last lines, and each event is above them once, in a line of its own.
    assert [line for line in lines if line][-3:] == bars
    above = " ".join(lines[: lines.index(bars[0])])
    for event in [
        "event one",
        "event four",
        "event five",
        *(f"event {n} {m} " for n in ("two", "three") for m in range(24)),
    ]:
        assert above.count(event) == 1, event
    assert "synthetic=43076" in above


def test_a_terminal_whose_log_is_json_has_no_bars():
    shown = on_a_terminal(LOGGING, ZAP_LOG_FORMAT="json")

    assert "━" not in shown
    assert [line for line in shown.splitlines() if not line.startswith("{")] == []


def test_a_terminal_without_unicode_has_bars_of_ascii():
    shown = on_a_terminal(CODE, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")

    assert "5000/5000" in shown
    assert "\\u" not in shown
    assert shown.isascii()


def test_a_file_has_a_percentage_and_other_phases_a_number():
    code = """
from zap.cli.bars import shown_progress
with shown_progress() as progress:
    progress("checking", 0, 29956)
    progress("checking", 14978, 29956)
    progress("predicting", 0, 300)
    progress("predicting", 300, 300)
"""
    shown = on_a_terminal(code)

    assert " 50 % " in shown
    assert "29956" not in shown
    assert "300/300" in shown


@pytest.mark.parametrize("columns", [80, 120])
def test_a_long_error_ends_its_lines_between_words(columns):
    errors = """
from zap.cli.command import fail
from zap.errors import InvalidRequest
detail = "is required: " + " ".join(f"battery_capacity_kwh_{n}" for n in range(9))
try:
    fail(InvalidRequest([{"pointer": f"#/{n}", "detail": detail} for n in range(3)]), as_json=False)
except SystemExit:
    pass
"""
    lines = on_a_terminal(errors, columns).splitlines()

    assert max(map(len, lines)) <= columns
    assert len(lines) > 4
    # The further lines of an item stand further to the right.
    assert [line for line in lines[1:] if not line.startswith(("  #/", "    battery"))] == []
    piped = subprocess.run([sys.executable, "-c", errors], capture_output=True, text=True, check=True).stderr
    assert len(piped.splitlines()) == 4


def test_a_word_that_is_wider_than_the_terminal_stays_whole():
    path = "/a-long-path" * 12
    shown = on_a_terminal(f"from zap.standard_error import tell; tell('Error: the file {path} is not there')")

    assert path in shown
