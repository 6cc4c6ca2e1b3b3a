"""make setup: a missing system piece is named with the package to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"

# Stands in for a Python without one of its pieces; as a venv's Python too, which it copies itself to.
PYTHON = """#!/bin/sh
case "$*" in
    *{missing}*) exit 1 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
"""


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("version_info", "Python 3.11 or newer"),
        ("ensurepip", "apt-get install python3-venv"),
        ("lightgbm", "apt-get install libgomp1"),
    ],
)
def test_what_is_missing_is_named(tmp_path, missing, says):
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text(PYTHON.format(missing=missing))
    python.chmod(0o755)

    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert says in done.stderr
    assert not (tmp_path / ".venv" / ".installed").exists()


@pytest.mark.parametrize("wrong", [None, "ruff", "mypy", "pytest"])
def test_lint_types_and_tests_are_each_fatal_and_the_types_are_said_last(tmp_path, wrong):
    shutil.copy(MAKEFILE, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).touch()
    for name in ("ruff", "mypy", "python"):
        seen = "pytest" if name == "python" else name
        (programs / name).write_text(f"#!/bin/sh\necho {seen} ran\nexit {int(seen == wrong)}\n")
        (programs / name).chmod(0o755)

    done = subprocess.run(["make", "test"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode != 0) == (wrong is not None)
    if wrong != "ruff":
        assert [line for line in done.stdout.splitlines() if line.endswith(" ran")][-2:] == ["pytest ran", "mypy ran"]


def test_the_lock_file_names_no_index_and_pins_with_hashes():
    lines = (MAKEFILE.parent / "requirements.lock").read_text().splitlines()

    pinned = [line for line in lines if "==" in line]
    assert len(pinned) > 50
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
    assert not [line for line in lines if "://" in line or "index-url" in line]
    assert any(line.startswith("uvloop") and "sys_platform != 'win32'" in line for line in lines)


@pytest.mark.parametrize("peer", ["fastapi", "mlflow"])
def test_the_peers_of_the_benchmark_are_pinned_and_name_no_index(peer):
    text = (MAKEFILE.parent / "tests" / "benchmarks" / "peers" / f"{peer}.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert any(line.startswith(f"{peer}==") for line in lines)
    assert all("==" in line for line in lines)
    assert not [line for line in lines if "://" in line or "index-url" in line]
