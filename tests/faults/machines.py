"""Machines: zap servers with their own model files on one PostgreSQL, each behind a proxy that can stall, and nginx."""

import contextlib
import threading
import time

from faults.nginx import example, running
from faults.stalling_proxy import StallingProxy
from servers import Server, free_port, kept_port
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from zap.db.versions.promotions import promote_version, roll_back
from zap.formats.promotion_reason import Reason
from zap.settings import Settings

# Within this time after a rollback a version has answered for the last time.
ROLLED_BACK_SECONDS = 2.0


class Machine:
    """A server, its way to the database, and its own folder of models.

    Args:
        database_url: the database.
        folder: for the models.
        variables: further variables of its environment.
    """

    host, inside = "127.0.0.1", ()

    def __init__(self, database_url, folder, variables=None):
        url = make_url(database_url)
        self.proxy = StallingProxy(url.host, url.port or 5432)
        through = url.set(host="127.0.0.1", port=self.proxy.port).render_as_string(hide_password=False)
        self._set(through, folder, variables)

    def _set(self, database_url, folder, variables):
        self.settings = Settings(database_url=database_url, models_dir=folder)
        self._kept = kept_port()
        self.port, self.variables, self.server = self._kept.getsockname()[1], variables, None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        # In a process of its own with other variables, because the loader of the system reads them.
        anew = self.variables is not None
        where = {"port": self.port, "host": self.host, "inside": self.inside}
        self.server = Server(self.settings, "--workers", "2", variables=self.variables, anew=anew, **where)
        return self

    def cut_off(self, seconds):
        """Let nothing pass between the machine and the database for so long."""
        self.proxy.stall()
        time.sleep(seconds)
        self.proxy.resume()

    def restart(self):
        """Start the server again, as an upgrade of zap does. The earlier one must have ended well."""
        code, _ = self.server.stop()
        assert code == 0, self.server.log()
        self.server.close()
        self.start().server.wait()

    def close(self):
        self.proxy.close()
        self._kept.close()
        if self.server is not None:
            self.server.close()


@contextlib.contextmanager
def behind_nginx(machines, folder):
    """Run nginx in front of machines with the example of the manual. Yield its address."""
    port, block = free_port(), example(1)
    for n, machine in enumerate(machines, start=1):
        assert f"server 10.0.0.{n}:8000 " in block
        block = block.replace(f"server 10.0.0.{n}:8000 ", f"server {machine.address} ")
    assert "listen 80;" in block
    with running(folder, block.replace("listen 80;", f"listen 127.0.0.1:{port};"), [port]):
        yield f"http://127.0.0.1:{port}"


class Changes:
    """Promote version 2 and roll it back, again and again, until the end of the block: in production, and since when.

    It asks the database itself, as another machine would.

    Args:
        database_url: the database.
        pause: between two changes, in seconds.
    """

    def __init__(self, database_url, pause=4.0):
        self._engine = create_engine(database_url, connect_args={"connect_timeout": 2})
        self._pause = pause
        # For each version the times in which it may have been in production; the last one may be open.
        self.times = {1: [[time.monotonic(), None]], 2: []}
        self.n = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._change)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._engine.dispose()

    def was_in_production(self, version, at, tolerance):
        """Return whether a version was in production at a moment, or at most so many seconds before."""
        return any(
            begin <= at and (end is None or at <= end + tolerance) for begin, end in list(self.times.get(version, ()))
        )

    def _change(self):
        serving = 1
        while not self._over.wait(self._pause):
            target = 3 - serving
            if not self.times[target] or self.times[target][-1][1] is not None:
                self.times[target].append([time.monotonic(), None])
            with contextlib.suppress(OperationalError):
                if target == 2:
                    promote_version(self._engine, 2, Reason())
                else:
                    roll_back(self._engine, Reason())
            serving = self._serving()
            for version, times in self.times.items():
                if version != serving and times and times[-1][1] is None:
                    times[-1][1] = time.monotonic()
                    self.n += 1

    def _serving(self):
        """Return the version in production, as soon as the database says it."""
        while True:
            with contextlib.suppress(OperationalError), self._engine.connect() as connection:
                return connection.scalar(text("SELECT model_version FROM model_versions WHERE status = 'production'"))
            time.sleep(0.1)


def judged(load, changes, database_url):
    """Return what must be 0: answers that are lost, by a version that was rolled back, or errors of a server."""
    answers = load.acknowledged()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        rows = {
            tuple(row)
            for row in connection.execute(
                text("SELECT input_id, prediction_id, model_version FROM predictions WHERE source = 'inference'")
            )
        }
    engine.dispose()
    named = [(one.answer["input_id"], one.answer["prediction_id"], one.answer["model_version"]) for one in answers]
    tolerance = ROLLED_BACK_SECONDS + load.lag
    return {
        "lost": len(set(named) - rows),
        "answered twice": len(named) - len(set(named)),
        "rolled back": sum(
            not changes.was_in_production(one.answer["model_version"], one.at, tolerance) for one in answers
        ),
        "errors": sum(one.status == 500 for one in load.replies),
    }
