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
from contextlib import contextmanager
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
    if _programs() is None or os.name != "posix":
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


def _programs():
    """Return the folder of the newest PostgreSQL's programs. Debian does not put them on the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


def _folder():
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    return Path(tempfile.mkdtemp(prefix="zap-postgresql-", dir=MEMORY if in_memory else None))


def _keep():
    """Run a server until the standard input ends. Print its URL as soon as it answers."""
    folder, programs = _folder(), _programs()
    # PostgreSQL refuses to run as root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    try:
        if user:
            shutil.chown(folder, "postgres", "postgres")
        with (
            (folder / "log").open("w+") as log,
            _server(folder, programs, {"stdout": log, "stderr": log, **user}) as url,
        ):
            print(url or "", flush=True)
            sys.stdin.read()
    finally:
        shutil.rmtree(folder)


@contextmanager
def _server(folder, programs, options):
    """Make a server and start it. Yield its URL, or None if it does not start, and stop it in the end."""
    # The environment may say another encoding, such as SQL_ASCII, in which zap refuses to work.
    make = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run([programs / "initdb", "--pgdata", folder / "data", *make], check=True, cwd=folder, **options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *settings]
    process = subprocess.Popen(command, cwd=folder, **options)
    try:
        ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
        until = time.monotonic() + START_SECONDS
        while not (answers := not subprocess.run(ready, check=False).returncode) and time.monotonic() < until:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        if answers:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        else:
            print(f"The tests' own PostgreSQL does not start:\n{(folder / 'log').read_text()}", file=sys.stderr)
            yield None
    finally:
        # It does not wait for clients, and removes its shared memory.
        process.send_signal(signal.SIGINT)
        process.wait(60)


if __name__ == "__main__":
    _keep()
