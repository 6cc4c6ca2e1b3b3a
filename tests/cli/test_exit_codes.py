"""Exit codes: the table in the manual has all of them, and each code means one thing."""

import ast
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from uvicorn.config import STARTUP_FAILURE

import zap
from zap import errors
from zap.cli.output import READER_LEFT
from zap.cli.program import INTERRUPTED
from zap.server.stopping import _HUNG_EXIT_CODE

PACKAGE = Path(zap.__file__).parent
REFERENCE = (PACKAGE / "manual" / "reference.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
# The code, its meaning, and its problems.
TABLE = [
    (int(code), meaning, set(re.findall(r"`([a-z-]+)`", problems)))
    for code, meaning, problems in re.findall(r"^\| (\d+) \| (.*) \| ?([^|]*?) ?\|$", REFERENCE, re.MULTILINE)
]
# Codes that are not of an error: success, an unexpected error, and the ends by signals.
OTHERS = {0, 1, 2, STARTUP_FAILURE, _HUNG_EXIT_CODE, INTERRUPTED, READER_LEFT, 128 + signal.SIGTERM}


def by_code():
    found = defaultdict(set)
    left = [errors.ZapError]
    while left:
        for error in left.pop().__subclasses__():
            left.append(error)
            if error.__module__.startswith(f"{errors.__name__}.") and error.exit_code != 1:
                problem = error([] if error is errors.InvalidRequest else "").problem()["type"]
                found[error.exit_code].add(problem.removeprefix("urn:zap:problem:"))
    return found


def test_the_manual_has_each_code_once_with_its_problems():
    codes = [code for code, _, _ in TABLE]

    assert codes == sorted(set(codes))
    assert set(codes) == OTHERS | set(by_code())
    assert {code: problems for code, _, problems in TABLE if problems} == dict(by_code())
    # Two codes with one meaning would be one code too many.
    assert len({meaning for _, meaning, _ in TABLE}) == len(TABLE)


def test_no_other_number_ends_a_process():
    """Find the numbers in calls that end a process, in all modules."""
    numbers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "os._exit", "exit", "SystemExit"}:
                numbers |= {one.value for one in node.args if isinstance(one, ast.Constant)}

    assert numbers <= {code for code, _, _ in TABLE}


SLOW = "import time, zap.cli.command as c; c.check_output = lambda: (print('begun', flush=True), time.sleep(60)); "


@pytest.mark.parametrize("arguments", [["models", "list"], ["train"], ["import-history", "/dev/null"]])
def test_ctrl_c_at_the_start_ends_any_command_with_130(arguments):
    code = f"{SLOW}import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"import zap.cli; zap.cli.main({arguments})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(signal.SIGINT)
        stderr = child.communicate(timeout=30)[1]

    assert child.returncode == 130
    assert b"interrupted" in stderr
    assert b"Traceback" not in stderr
