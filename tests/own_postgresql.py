"""A PostgreSQL server for one run of the tests. It never waits for the disk: a new database takes 0.05 s, not 0.8 s.

Run as a program, this module keeps such a server: it prints the server's URL, and stops the server and removes its
files as soon as its standard input ends. Thus the server ends with the tests even if they are killed.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Tests never cut the power, so that what is written need not reach the disk. zap's own settings of a session, such as
# synchronous_commit, are as they are on any other server.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "128MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}
MEMORY = Path("/dev/shm")
# Many databases of 8 MB each, and the log of the transactions.
ROOM = 1 << 30
# A server that does not answer within this time is given up.
START_SECONDS = 60


def start():
    """Start a server for this process. Return its URL, or None if PostgreSQL's programs are not on this machine."""
    if not is_installed():
        return None
    # In a session of its own, Ctrl-C does not end the server before the tests.
    keeper = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )

    @atexit.register
    def end():
        keeper.stdin.close()
        keeper.wait(60)

    return keeper.stdout.readline().strip() or None


def is_installed():
    """Return whether the programs of PostgreSQL are on this machine."""
    return os.name == "posix" and programs() is not None


def programs():
    """Return the folder of the newest PostgreSQL's programs. Debian does not put them on the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


def _folder():
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    return Path(tempfile.mkdtemp(prefix="zap-postgresql-", dir=MEMORY if in_memory else None))


class OwnPostgresql:
    """A server of one's own, which can be stopped and started again on its port, and can have standbys.

    Args:
        settings: of PostgreSQL, beside and before SETTINGS.
    """

    def __init__(self, **settings):
        self.folder, self._programs = _folder(), programs()
        self._settings, self._process = SETTINGS | settings, None
        # PostgreSQL refuses to run as root.
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(self.folder, "postgres", "postgres")
        self.log = (self.folder / "log").open("w+")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self):
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def make(self):
        """Make an empty cluster."""
        # The environment may say another encoding, such as SQL_ASCII, in which zap refuses to work.
        make = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "--pgdata", self.folder / "data", *make)
        return self

    def standby(self):
        """Make a streaming standby of this server, which has to be started. This server needs wal_level=replica."""
        other = OwnPostgresql(**self._settings)
        primary = ["--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "--checkpoint=fast", "--no-sync"]
        other._run("pg_basebackup", *primary, "--write-recovery-conf", "--pgdata", other.folder / "data")
        return other

    def start(self):
        """Start the server. Return whether it answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *settings]
        self._process = subprocess.Popen(command, **self._options)
        ready = [self._programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        until = time.monotonic() + START_SECONDS
        while not (answers := not subprocess.run(ready, check=False).returncode) and time.monotonic() < until:
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        return answers

    def stop(self, sign=signal.SIGINT):
        """Stop the server: SIGINT does not wait for clients, and SIGQUIT (immediate) does not even clean up."""
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(60)
            self._process = None

    def signal(self, sign):
        """Send a signal to all processes of the server, for example SIGSTOP."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, sign)

    def close(self):
        """Stop the server, which removes its shared memory, and remove its files."""
        self.stop()
        self.log.close()
        shutil.rmtree(self.folder)

    @property
    def _options(self):
        return {"cwd": self.folder, "stdout": self.log, "stderr": self.log, **self._user}

    def _run(self, program, *arguments):
        subprocess.run([self._programs / program, *arguments], check=True, **self._options)


def _keep():
    """Run a server until the standard input ends. Print its URL as soon as it answers."""
    server = OwnPostgresql()
    try:
        answers = server.make().start()
        if not answers:
            print(f"The tests' own PostgreSQL does not start:\n{(server.folder / 'log').read_text()}", file=sys.stderr)
        print(server.url if answers else "", flush=True)
        sys.stdin.read()
    finally:
        server.close()


if __name__ == "__main__":
    _keep()
