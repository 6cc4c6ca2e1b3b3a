"""The rights of a driver in a serving process: one erasure or export at a time, for the JSON routes and the pages."""

import tempfile
from collections.abc import AsyncGenerator
from functools import partial
from typing import IO

from sqlalchemy import Engine

from zap.db.erasure.erasure_watch import ErasureWatch
from zap.errors import DatabaseUnavailable
from zap.flows.driver_erasure import ErasureReport, erase_driver
from zap.flows.driver_export import export_driver
from zap.sentences import say
from zap.settings import Settings
from zap.threads import PATIENCE_SECONDS, Pool, Turns

ZIP = "application/zip"
# The headers of an export, which no cache may keep.
EXPORT_HEADERS = {"Content-Disposition": 'attachment; filename="driver.zip"', "Cache-Control": "no-store"}
_PORTION = 65_536


class DriverRights:
    """Erase and export drivers.

    Args:
        engine: on a database at head.
        settings: of this process.
        watch: lets this process forget an erased driver at once.
        threads: where the work is done.
    """

    def __init__(self, engine: Engine, settings: Settings, watch: ErasureWatch, threads: Pool) -> None:
        self._engine, self._settings, self._watch, self._threads = engine, settings, watch, threads
        # An erasure or an export may take seconds, and must not take the threads of other requests.
        self._turns = Turns(
            2 * PATIENCE_SECONDS, partial(DatabaseUnavailable, say("another driver is exported or erased; try again"))
        )

    async def erase(self, user_id: str) -> ErasureReport:
        """Erase a driver, also if the caller is cancelled meanwhile.

        Raises:
            ZapError: the errors of `erase_driver`.
            DatabaseUnavailable: earlier erasures and exports take too long.
        """
        await self._turns.take()
        return await self._threads.to_its_end(self._erase, user_id, after=lambda _: self._turns.give())

    async def export(self, user_id: str) -> AsyncGenerator[bytes, None]:
        """Return the ZIP of all that is held of a driver, in portions. It is whole before the first portion is sent.

        Raises:
            ZapError: the errors of `export_driver`.
            DatabaseUnavailable: earlier erasures and exports take too long.
        """
        await self._turns.take()
        written = await self._threads.to_its_end(self._export, user_id, after=lambda _: self._turns.give())
        return self._portions(written)

    def _erase(self, user_id: str) -> ErasureReport:
        report = erase_driver(self._engine, self._settings, user_id)
        self._watch.look()
        return report

    def _export(self, user_id: str) -> IO[bytes]:
        """Write an export to a file without a name, which nobody else can read, and which is gone when it is closed."""
        written = tempfile.TemporaryFile()  # noqa: SIM115 - `_portions` closes it
        try:
            export_driver(self._engine, self._settings, user_id, written)
        except BaseException:
            written.close()
            raise
        written.seek(0)
        return written

    async def _portions(self, written: IO[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            while some := await self._threads.run(written.read, _PORTION):
                yield some
        finally:
            written.close()
