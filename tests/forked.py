"""Programs of zap, each in a process of its own that has zap's modules already: an import takes two seconds of a core.

Run as a program with the number of a socket, this module imports zap, and then forks a process for each command that
it is sent. With the arguments of a command behind the number, it sends them to that process and waits for the command:
so a shell can run commands. Tests of how a process starts start `python -m zap` themselves.
"""

import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from select import select
from types import SimpleNamespace

# What commands and servers import.
PACKAGES = ("zap.cli", "zap.flows", "zap.db", "zap.formats", "zap.ml", "zap.server", "zap.controllers", "zap.pages")


READY = b"ready"


class Commands:
    """Run commands of zap. The process that forks theirs is started with the first of them.

    Args:
        folder: the folder with another code of zap than the code of the tests.
    """

    def __init__(self, folder=None):
        self._environment = os.environ | {"PYTHONPATH": str(folder)} if folder else None
        self._process = None

    def run(self, arguments, environment, text=None, seconds=240):
        """Run `zap` with these arguments, and `text` as its standard input, in the present folder.

        With "alembic" as the first argument, run Alembic with the others.
        """
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as asked,
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            asked.write(text or "")
            asked.seek(0)
            command = self.start(arguments, environment, (asked.fileno(), out.fileno(), err.fileno()))
            try:
                code = command.wait(seconds)
            except subprocess.TimeoutExpired:
                command.kill()
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["zap", *arguments], code, out.read(), err.read())

    def start(self, arguments, environment, streams, *, forks_trainings=False):
        """Start `zap` with these arguments in the present folder, and return its process.

        Args:
            arguments: the arguments.
            environment: the environment.
            streams: the numbers of the open files that are its standard input, output and error.
            forks_trainings: whether the trainings that it starts are forked too, and are no children of its process.
        """
        connection = self.connection()
        return _ask(connection, arguments, environment, streams, forks_trainings=forks_trainings)

    def connection(self):
        """Return the socket by which programs that inherit it can start commands too (see `_in_the_place_of`)."""
        if self._process is None:
            self._start()
        return self._connection

    def _start(self):
        self._connection, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        # -P: the modules of the tests are not on its path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            env=self._environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        # A test that starts a command waits for the imports here, not with a deadline behind the start.
        assert self._connection.recv(100) == READY

    def close(self):
        if self._process is not None:
            self._connection.close()
            self._process.wait(60)
            self._process = None


# The commands of all tests of this process.
COMMANDS = Commands()


class Forked:
    """A process that was forked for a command, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, news):
        # Its number comes first, and its exit code when it has ended.
        self._news = news
        self.returncode = None
        self.pid = self._told(60)

    def wait(self, timeout=None):
        if self.returncode is None:
            self.returncode = self._told(timeout)
            self._news.close()
        return self.returncode

    def poll(self):
        if self.returncode is None and select([self._news], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def send_signal(self, sig):
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _told(self, seconds):
        if not select([self._news], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("zap", seconds)
        return int(self._news.recv(100))


def of_trainings(connect):
    """Return what stands for the module `subprocess` where a server starts its trainings, so that they are forked.

    Args:
        connect: returns the socket of the process that forks.
    """

    def popen(command, *, stdin=None, stdout=None, stderr=None, env):
        assert command[:3] == [sys.executable, "-m", "zap"]
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            # Without a stream of its own, a process has the one of its parent.
            given = {subprocess.DEVNULL: nothing.fileno()}
            streams = [
                own if stream is None else given.get(stream, stream)
                for own, stream in enumerate((stdin, stdout, stderr))
            ]
            return _ask(connect(), command[3:], env, streams)

    return SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL)


def _ask(connection, arguments, environment, streams, *, forks_trainings=False):
    message = json.dumps([arguments, environment, str(Path.cwd())]).encode()
    news, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        files = [theirs.fileno(), *streams, *([connection.fileno()] if forks_trainings else [])]
        socket.send_fds(connection, [message], files)
    return Forked(news)


def _in_the_place_of(connection, arguments):
    """Run a command with the streams, the environment and the folder of this process. Return its exit code."""
    return _ask(connection, arguments, dict(os.environ), (0, 1, 2)).wait()


def _import_all():
    app = importlib.import_module("zap.app")
    _read_routes(app)
    # A server would do it beside its first requests.
    importlib.import_module("zap.pages.templates").prepare()
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    gc.freeze()


def _read_routes(module):
    """Make an app, so that those of the commands share what it reads of its routes. The tests start some servers anew.

    Nothing else of it is left in this process: neither its logs nor a setting of the test that comes first.
    """
    spec = importlib.util.spec_from_file_location("routes", Path(__file__).with_name("routes.py"))
    routes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(routes)
    routes.read_once()
    for name in [name for name in os.environ if name.startswith("ZAP_")]:
        del os.environ[name]
    configure_logs, module.configure_logs = module.configure_logs, lambda _: None
    module.create_app(importlib.import_module("zap.settings").Settings(_env_file=None))
    module.configure_logs = configure_logs


def _forked(connection):
    """Fork a process for each command. In such a process, return the command; in this one None, when no more come."""
    # Nobody waits for the keepers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 5)
        if not message:
            return None
        if os.fork() == 0:
            connection.close()
            news, *others = files
            _keep(socket.socket(fileno=news), others)
            return others, *json.loads(message)
        for file in files:
            os.close(file)


def _keep(news, others):
    """Fork the process of a command, in which this function returns. This process tells its number and its exit code.

    It only waits, so that any number of commands can run.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        news.close()
        return
    for file in others:
        os.close(file)
    # A test that does not wait for the end has closed its side.
    with suppress(OSError):
        news.send(str(child).encode())
        news.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    os._exit(0)


def _run(files, arguments, environment, folder):
    """Run a command in this process, which ends with it as any process of Python."""
    streams, others = files[:3], files[3:]
    # Python's streams, from and to which nothing has gone, are on these files from now on.
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    if others:
        connection = socket.socket(fileno=others[0])
        for starts in ("zap.server.training_process", "zap.cli.serving"):
            importlib.import_module(starts).subprocess = of_trainings(lambda: connection)
    importlib.import_module("zap.server.serving").os = SimpleNamespace(execv=_go_on)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    if arguments[:1] == ["alembic"]:
        importlib.import_module("alembic.config").main(arguments[1:], prog="alembic")
        return
    sys.argv = ["zap", *arguments]
    importlib.import_module("zap.__main__").run()


def _go_on(_program, command):
    """Do in this process what a server of several workers replaces its process for.

    It is replaced because LightGBM may have been used in it, as a server with --bootstrap does. A test starts such a
    server anew.
    """
    assert command[:3] == [sys.executable, "-m", "zap.server.serving"]
    sys.argv = command[2:]
    importlib.import_module("zap.server.serving")._main()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _connection:
        if sys.argv[2:]:
            sys.exit(_in_the_place_of(_connection, sys.argv[2:]))
        _import_all()
        _connection.send(READY)
        _command = _forked(_connection)
    if _command:
        _run(*_command)
