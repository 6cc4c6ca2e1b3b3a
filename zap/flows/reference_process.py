"""The process that computes what the monitors of an older version compare with.

A server must not hold a whole history in memory, and the follower must not wait for minutes. So this is a separate
process of low priority.
"""

import os
import subprocess
import sys

import structlog

from zap.errors import ZapError
from zap.settings import Settings, read_settings

log = structlog.get_logger(__name__)

_NICENESS = 10


class ReferenceProcess:
    """Compute the references of one version after another, each at most once.

    Args:
        settings: of the database.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._number: int | None = None

    def see_to(self, number: int) -> None:
        """Start the process for a version, unless it was started before. Call this again to notice its end."""
        if self._child is not None and self._child.poll() is not None:
            if self._child.returncode != 0:
                log.warning("drift and harm of a version cannot be watched", model_version=self._number)
            self._child = None
        if self._child is None and self._number != number:
            self._number = number
            self._child = subprocess.Popen(  # noqa: S603 - of its own program
                [sys.executable, "-m", "zap.flows.reference_process", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._settings.training_environment(os.environ),
            )

    def close(self) -> None:
        """End the process. Another process may compute the references later."""
        if self._child is not None:
            # It writes once, in one transaction, so nothing is left half done.
            self._child.kill()
            self._child.wait()
            self._child = None


def compute(settings: Settings, number: int) -> None:
    """Compute and store the references of a version.

    Raises:
        ZapError: the version or its sessions cannot be read.
    """
    # Imported here, because the server that starts this process needs neither pandas nor the history.
    from zap.db.engine import create_engine, write_transaction  # noqa: PLC0415
    from zap.db.monitoring.monitor_states import store_references  # noqa: PLC0415
    from zap.flows.monitor_references import find_references  # noqa: PLC0415

    engine = create_engine(settings.database_url)
    try:
        references = find_references(engine, number)
        with write_transaction(engine) as connection:
            store_references(connection, number, references)
    finally:
        engine.dispose()


def _main() -> None:
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    try:
        compute(read_settings(), int(sys.argv[1]))
    except ZapError as error:
        sys.exit(f"what version {sys.argv[1]} is compared with could not be computed: {error.message}")


if __name__ == "__main__":
    _main()
