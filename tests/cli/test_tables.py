"""The tables of the command line in real terminals of 80 and 120 columns."""

import json
import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from zap.cli import shown as tables
from zap.cli import shown_comparison

NOTE = "a note that says at some length why this version was trained on the sessions of spring, and by whom"
WIDTHS = (80, 120)
# Runs commands, and prints each table twice: in a terminal of 80 and of 120 columns.
RUN = f"""
import fcntl, json, struct, sys, termios
from zap.cli import main, shown, shown_comparison

def at_each_width(show):
    def show_twice(what):
        for width in {WIDTHS}:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
            print("#", show.__name__, width, flush=True)
            show(what)
    return show_twice

for module in (shown, shown_comparison):
    for name in [name for name in vars(module) if name.startswith("print_")]:
        setattr(module, name, at_each_width(getattr(module, name)))
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        # `zap` ends its process after each command.
        if ended.code:
            raise
"""
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(\.[0-9]+)?( \([0-9.]+\))?|missing|[+-][0-9.]+ to [+-][0-9.]+")


def in_terminal(commands, environment):
    """Run commands in a terminal. Return the lines that each function printed at each width, without their styles."""
    ours, theirs = os.openpty()
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
    parts = re.split(r"^# (print_\w+) (\d+)\n", text, flags=re.MULTILINE)[1:]
    return {(parts[n], int(parts[n + 1])): parts[n + 2].splitlines() for n in range(0, len(parts), 3)}


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


def test_every_table_fits_and_its_numbers_stand_at_the_right(environment):
    prediction = environment["PREDICTION"]
    shown = in_terminal(
        [
            ["explain-prediction", prediction],
            ["train", "--set"],
            ["train", "--set", "n_estimators=10", "--windows", "--promote", "never", "--note", NOTE],
            ["tune", "--trials", "2", "--set", "n_estimators=10"],
            ["models", "promote", "2", "--who", "somebody with a long name", "--why", NOTE],
            ["models", "history"],
            ["models", "reproduce", "2"],
            ["models", "show", "2"],
            ["models", "compare", "1", "2"],
            ["models", "list"],
        ],
        environment,
    )

    functions = {name for name in {*vars(tables), *vars(shown_comparison)} if name.startswith("print_")}
    assert set(shown) == {(name, width) for name in functions for width in WIDTHS}
    for (name, width), lines in shown.items():
        assert [line for line in lines if cell_len(line) > width] == [], name
        assert [line for line in lines if "…" in line] == [], name
        # In the tables of one version, and of two, most values are texts.
        cells = [cell for line in lines if line.startswith("│") for cell in line.strip("│").split("│")]
        numbers = [
            cell
            for cell in cells
            if _NUMBER.fullmatch(cell.strip()) and name not in {"print_version", "print_compared"}
        ]
        assert [cell for cell in numbers if not re.search(r"\S $", cell)] == [], name
    for width in WIDTHS:
        explained = shown["print_explained", width]
        said = re.search(
            rf"Prediction {prediction}: ([\w ]+), by model version 1, for request \d+ of 20", " ".join(explained)
        )
        assert '"user_id": "aaa' in " ".join(explained).replace("  ", " ")
        assert [line for line in explained if line.startswith(f"│ {said[1]}") and "predicted" in line]

        versions = shown["print_versions", width]
        rows = [line for line in versions if re.match(r"^[* ]*\d+ ", line)]
        assert [line.split()[0] for line in rows] == ["*", "1"]
        assert "* serves now" in versions
        # The numbers of the versions end in one column.
        assert len({re.match(r"^[* ]*\d+", line).end() for line in rows}) == 1
        # Nothing of a long text is cut off.
        place = next(line.index("note") for line in versions if "note" in line)
        notes = "".join(line[place:] for line in versions[versions.index(rows[0]) : versions.index(rows[1])])
        assert "".join(notes.split()) == "".join(NOTE.split())
        promotions = shown["print_promotions", width]
        why = "".join(line.strip("│").split("│")[-1] for line in promotions if line.startswith("│"))
        assert "".join(why.split()).startswith("".join(NOTE.split()))


def test_what_the_cleaning_left_out_is_said_in_sentences():
    dropped = {"rows": {}, "values": {}, "strangers": {}, "undated": {"user_type": 10}}

    assert [*tables._dropped(dropped)] == [
        "sessions whose user_type at that time is not stored, so that today's user_type is used: 10"
    ]
