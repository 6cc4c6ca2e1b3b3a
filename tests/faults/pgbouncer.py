"""PgBouncer in transaction mode: each transaction may meet another connection of the server."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
# It does not run as root.
UNPRIVILEGED = "nobody"


class PgBouncer:
    """A pooler of two connections to each database, run as an unprivileged user.

    Args:
        url: of a database on the server; its role is the one that clients are.
        settings: lines of its configuration beside the usual ones.
    """

    def __init__(self, url, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        (self._folder / "users").write_text(f'"{url.username}" "{url.password or ""}"\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self._folder / "users",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "server_tls_sslmode": "disable",
            **settings,
        }
        server = f"* = host={url.host} port={url.port or 5432}"
        (self._folder / "ini").write_text(
            "\n".join(["[databases]", server, "[pgbouncer]", *(f"{name} = {value}" for name, value in lines.items())])
        )
        as_user = []
        if os.getuid() == 0:
            as_user = ["-u", UNPRIVILEGED]
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen([PROGRAM, *as_user, self._folder / "ini"], stdout=self._log, stderr=self._log)
        self._wait()

    def _wait(self, seconds=10):
        end = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < end, self.log()
                time.sleep(0.05)
            else:
                return

    def log(self):
        return (self._folder / "log").read_text()

    def close(self):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)
