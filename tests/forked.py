"""The commands of zap, each in a process of its own that has zap's modules already: an import takes a second of a core.

Run as a program, this module imports zap, and then forks a process for each command that it is sent. Tests of how a
process starts, is signalled or ends start `python -m zap` themselves.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What commands import. A server has more.
PACKAGES = ("zap.cli", "zap.flows", "zap.db", "zap.formats", "zap.ml")


class Commands:
    """Run commands of zap. The process that forks theirs is started with the first of them."""

    def __init__(self):
        self._process = None

    def run(self, arguments, environment, text=None, seconds=240):
        """Run `zap` with these arguments, and `text` as its standard input, in the present folder."""
        if self._process is None:
            self._start()
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as asked,
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            asked.write(text or "")
            asked.seek(0)
            message = json.dumps([arguments, environment, str(Path.cwd())]).encode()
            socket.send_fds(self._connection, [message], [file.fileno() for file in (asked, out, err)])
            self._connection.settimeout(seconds)
            try:
                code = int(self._connection.recv(100))
            except TimeoutError:
                # The command, and the process that would take its exit code for that of the next command.
                os.killpg(self._process.pid, signal.SIGKILL)
                self.close()
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["zap", *arguments], code, out.read(), err.read())

    def _start(self):
        self._connection, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        # -P: the modules of the tests are not on its path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()

    def close(self):
        if self._process is not None:
            self._connection.close()
            self._process.wait(60)
            self._process = None


def _import_all():
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    gc.freeze()


def _forked(connection):
    """Fork a process for each command. In such a process, return the command; in this one None, when no more come."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            return None
        child = os.fork()
        if child == 0:
            connection.close()
            return files, *json.loads(message)
        for file in files:
            os.close(file)
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _run(files, arguments, environment, folder):
    """Run a command in this process, which ends with it as any process of Python."""
    # Python's streams, from and to which nothing has gone, are on these files from now on.
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["zap", *arguments]
    importlib.import_module("zap.__main__").run()


if __name__ == "__main__":
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as _connection:
        _command = _forked(_connection)
    if _command:
        _run(*_command)
