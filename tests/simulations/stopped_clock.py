"""A stopped wall clock for processes of zap, which simulations move on."""

import json
import os
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import httpx


class Clock:
    """The stopped wall clock of zap's processes: a library in C that they load first, and the file that it reads.

    Args:
        folder: of the database, the models and the file.
        port: of the server.
        settings: more variables of zap.
    """

    def __init__(self, folder, port, **settings):
        library = folder / "stopped_clock.so"
        source = Path(__file__).with_name("stopped_clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        self._file = folder / "now"
        self._file.write_bytes(bytes(8))
        self._url = f"http://127.0.0.1:{port}"
        self.database_url = f"sqlite:///{folder / 'zap.sqlite'}"
        self.environment = os.environ | {
            "LD_PRELOAD": str(library),
            "STOPPED_CLOCK": str(self._file),
            "TZ": "UTC",
            "ZAP_TIMEZONE": "UTC",
            "ZAP_DATABASE_URL": self.database_url,
            "ZAP_MODELS_DIR": str(folder / "models"),
            "ZAP_FOLLOW": "false",
            "ZAP_PORT": str(port),
            "ZAP_LOG_LEVEL": "WARNING",
            **settings,
        }

    def set(self, moment):
        """Stop the clock at a moment (UTC)."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", int(moment.replace(tzinfo=UTC).timestamp())))

    def run(self, *command):
        """Run a command of zap, and return its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "zap", *command], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in {0, 30}:
            raise SystemExit(f"zap {' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    @contextmanager
    def serving(self):
        """Yield a client of a server, which ends with this block."""
        server = subprocess.Popen([sys.executable, "-m", "zap", "serve"], env=self.environment)
        try:
            with httpx.Client(base_url=self._url, timeout=60) as client:
                for _ in range(120):
                    try:
                        client.get("/health/ready")
                        break
                    except httpx.TransportError:
                        time.sleep(0.5)
                yield client
        finally:
            server.terminate()
            server.wait()
