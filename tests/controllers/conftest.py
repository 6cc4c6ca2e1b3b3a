"""Fixtures of the tests of routes."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import COMMANDS

from zap.server import training_process


@pytest.fixture(autouse=True)
def _forked_trainings(request, monkeypatch):
    """Fork the trainings of an app in this process: a new Python takes two seconds of a core to begin one.

    Tests that look for the process of a training, or look into it, take the fixture `new_processes`. Servers of tests
    always start new processes.
    """
    if "new_processes" in request.fixturenames:
        return
    # A training has ten seconds for its first sign of life, so the process that forks it is ready before.
    COMMANDS.connection()

    def popen(command, *, stdin, stdout, stderr, env):
        assert command[:3] == [sys.executable, "-m", "zap"]
        assert (stdin, stdout) == (subprocess.DEVNULL, subprocess.DEVNULL)
        with Path(os.devnull).open("r+") as nothing:
            return COMMANDS.start(command[3:], env, nothing.fileno(), nothing.fileno(), stderr)

    monkeypatch.setattr(training_process, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL))


@pytest.fixture
def new_processes():
    """Let each training of the app start in a new Python, as in a server."""
