"""The tables of the command line in real terminals of 80 and 120 columns."""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

NOTE = "a note that says at some length why this version was trained on the sessions of spring, and by whom"
# Prints the number of each command before its output.
RUN = """
import json, sys
from zap.cli import main
for number, arguments in enumerate(json.loads(sys.argv[1])):
    print("#", number, flush=True)
    main(arguments, standalone_mode=False)
"""
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(\.[0-9]+)?( \([0-9.]+\))?|missing|[+-][0-9.]+ to [+-][0-9.]+")


def in_terminal(width, commands, environment):
    """Run commands in a terminal of this width, and return the lines that each of them shows, without their styles."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in environment.items() if name not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment | {"TERM": "xterm-256color"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        said = process.stderr.read().decode()
    assert process.returncode == 0, said
    text = _STYLE.sub("", shown.decode()).replace("\r\n", "\n")
    return [part.splitlines()[1:] for part in re.split(r"^(?=# \d+$)", text, flags=re.MULTILINE)[1:]]


def _read(terminal):
    """Return what was written to a terminal. Linux reports an error when the last writer has closed it."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


@pytest.fixture
def environment(trained_sqlite, zap_command, good_request):
    """A database with two versions, a change of the version in production, and a prediction."""
    answer = zap_command("predict", settings=trained_sqlite, text=json.dumps(good_request | {"user_id": "a" * 100}))
    return os.environ | trained_sqlite.environment() | {"PREDICTION": str(json.loads(answer.stdout)["prediction_id"])}


@pytest.mark.parametrize("width", [80, 120])
def test_every_table_fits_and_its_numbers_stand_at_the_right(environment, width):
    commands = [
        ["explain-prediction", environment["PREDICTION"]],
        ["train", "--set"],
        ["train", "--set", "n_estimators=10", "--windows", "--promote", "never", "--note", NOTE],
        ["tune", "--trials", "2", "--set", "n_estimators=10"],
        ["models", "promote", "2", "--who", "somebody with a long name", "--why", NOTE],
        ["models", "history"],
        ["models", "reproduce", "2"],
        ["models", "show", "2"],
        ["models", "list"],
    ]

    shown = in_terminal(width, commands, environment)

    assert len(shown) == len(commands)
    for command, lines in zip(commands, shown, strict=True):
        assert [line for line in lines if cell_len(line) > width] == [], command
        assert [line for line in lines if "…" in line] == [], command
        if command[:2] == ["models", "show"]:
            continue
        cells = [cell for line in lines if line.startswith("│") for cell in line.strip("│").split("│")]
        numbers = [cell for cell in cells if _NUMBER.fullmatch(cell.strip())]
        assert [cell for cell in numbers if not re.search(r"\S $", cell)] == [], command

    explained, *_, versions = shown
    told = " ".join(explained)
    prediction = environment["PREDICTION"]
    assert re.search(rf"Prediction {prediction}: (Level \d|DC Fast Charger), by model version 1, for request \d+", told)
    assert '"user_id": "aaa' in told
    predicted = re.search(rf"Prediction {prediction}: ([\w ]+),", told)[1]
    assert [line for line in explained if "predicted" in line and line.startswith(f"│ {predicted}")]

    rows = [line for line in versions if re.match(r"^[* ]*\d+ ", line)]
    assert [line.split()[0] for line in rows] == ["*", "1"]
    assert versions[-1] == "* serves now"
    # The numbers of the versions end in one column.
    assert len({re.match(r"^[* ]*\d+", line).end() for line in rows}) == 1
    # Nothing of a long text is cut off.
    place = next(line.index("note") for line in versions if "note" in line)
    notes = "".join(line[place:] for line in versions[versions.index(rows[0]) : versions.index(rows[1])])
    assert "".join(notes.split()) == "".join(NOTE.split())
    why = "".join(line.strip("│").split("│")[-1] for line in shown[5] if line.startswith("│"))
    assert "".join(why.split()).startswith("".join(NOTE.split()))
