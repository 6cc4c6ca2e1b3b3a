"""The metrics in the database: read seldom, in a separate thread and within a deadline, and shared by all processes."""

import asyncio
import contextlib
import threading
import time
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.errors import ZapError
from zap.flows.database_figures import QUALITY_SECONDS, database_figures, quality_figures
from zap.monitoring.metric_families import Sample, Samples
from zap.monitoring.metric_rows import Note
from zap.server.metrics import Metrics
from zap.settings import Settings

log = structlog.get_logger(__name__)

# How long what one process has read is shown by all processes.
FRESH_SECONDS = 10.0
# How long a scrape waits for the database. Prometheus usually waits ten seconds for a scrape.
_PATIENCE_SECONDS = 2.0
_DOWN: Samples = {"zap_database_up": [Sample({}, 0)]}


class DatabaseMetrics:
    """Read the metrics that are in the database, at most once in FRESH_SECONDS over all processes.

    A process that has read them leaves them in its row, and every process shows the newest ones, so a value does not
    go back when another process answers. A database that hangs blocks only one thread.

    Args:
        engine: on the database.
        settings: the time zone of the drivers, and the horizon of outcomes.
        metrics: the rows of all processes.
    """

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._engine, self._settings, self._metrics = engine, settings, metrics
        self._looking: asyncio.Future[Samples] | None = None
        self._begun = 0.0

    async def samples(self) -> Samples:
        """Return the metrics. If the database does not answer in time, there is only `zap_database_up`, which is 0."""
        looking = self._looking
        if looking is None:
            note = self._newest()
            if note is not None and time.monotonic() - note.seconds < FRESH_SECONDS:
                return _up(note)
            try:
                looking = self._look(note)
            except RuntimeError:
                # The system has no thread left.
                return _DOWN
        left = self._begun + _PATIENCE_SECONDS - time.monotonic()
        done, _ = await asyncio.wait([looking], timeout=max(0.0, left))
        return looking.result() if done else _DOWN

    def _newest(self) -> Note | None:
        notes = (row.read_note() for row in self._metrics.rows)
        return max((note for note in notes if note is not None), key=lambda note: note.seconds, default=None)

    def _look(self, before: Note | None) -> asyncio.Future[Samples]:
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[Samples] = loop.create_future()

        def tell(found: Samples) -> None:
            self._looking = None
            looking.set_result(found)

        def look() -> None:
            found = self._read(before)
            # The loop may have been closed meanwhile; then no scrape waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=look, name="metrics", daemon=True).start()
        self._looking, self._begun = looking, time.monotonic()
        return looking

    def _read(self, before: Note | None) -> Samples:
        """Read the metrics, and leave them in the row of this process."""
        try:
            quality_at, quality = self._quality(before)
            read = database_figures(self._engine, self._settings) | quality
        except (SQLAlchemyError, ZapError) as error:
            log.warning("the metrics of the database could not be read", error=type(error).__name__)
            return _DOWN
        except Exception:
            log.exception("the metrics of the database could not be read")
            return _DOWN
        self._metrics.row.write_note({"samples": read, "quality_at": quality_at, "quality": [*quality]})
        return {**read, "zap_database_up": [Sample({}, 1)]}

    def _quality(self, before: Note | None) -> tuple[float, Samples]:
        if before is not None and time.monotonic() - before.content["quality_at"] < QUALITY_SECONDS:
            samples = _up(before)
            return before.content["quality_at"], {name: samples[name] for name in before.content["quality"]}
        return time.monotonic(), quality_figures(self._engine, self._settings)


def _up(note: Note) -> Samples:
    """Return the metrics of a note, which was written because the database has answered."""
    samples: dict[str, list[Any]] = note.content["samples"]
    read = {name: [Sample(*one) for one in some] for name, some in samples.items()}
    return {**read, "zap_database_up": [Sample({}, 1)]}
