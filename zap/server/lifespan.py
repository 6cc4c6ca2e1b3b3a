"""The lifespan of a serving process: opening its parts before the first request, closing them after the last one."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar
from litestar.datastructures import State
from sqlalchemy import Engine

from zap.db.database_watch import DatabaseWatch
from zap.db.engine import bounds_of, create_engine
from zap.db.erasure.erasure_watch import ErasureWatch
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.recent_sessions import RecentSessions
from zap.db.history.session_changes import prune_changes
from zap.db.log.prediction_log import PredictionLog
from zap.db.read_replica import ReadReplica
from zap.db.runs.dead_runs import see_to_dead_runs
from zap.db.schema import check_at_head, check_rights
from zap.db.versions.production import Production
from zap.flows.explanations import Explanations
from zap.flows.history_figures import HistoryCounter
from zap.flows.prediction import OnePrediction
from zap.logs import show_repeated
from zap.monitoring.answer_counts import LOG
from zap.server.alarm_delivery import deliver_alarms
from zap.server.alarm_settings import note_alarm_settings
from zap.server.database_checks import DatabaseChecks
from zap.server.database_metrics import DatabaseMetrics
from zap.server.driver_rights import DriverRights
from zap.server.follower import FOLLOW_SECONDS, Follower
from zap.server.interpreter import collecting_seldom, taking_turns
from zap.server.key_looks import KeyLooks
from zap.server.metrics import LOOK_SECONDS
from zap.server.refusals import Refusals
from zap.server.retraining import retrain
from zap.server.run_news import RunNews
from zap.server.serving_minutes import ServingMinutes
from zap.server.stopping import told_to_stop
from zap.server.tracing import TracedLog
from zap.server.training_jobs import TrainingProcesses
from zap.server.watch import last_write, watch
from zap.settings import Settings
from zap.threads import Pool

log = structlog.get_logger(__name__)

# The pause between two looks of a watch. A change on another machine is noticed within twice this time.
WATCH_SECONDS = 0.5
# How long the start waits for the recent sessions, so that the first requests need not wait for them.
FIRST_READ_SECONDS = 10.0
# The pause between two writes of when keys were last used.
USES_SECONDS = 60.0
# The pause between two looks for trainings that died.
DEAD_RUNS_SECONDS = 2.0
# The pause between two writes of the counts of refused requests.
REFUSALS_SECONDS = 5.0
# The pause between two looks at the clock. When a minute is over, its counts are written.
MINUTES_SECONDS = 1.0
# The pause between two looks for changes of sessions that all servers have seen.
PRUNE_SECONDS = 60.0


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, Any]:
    """Open the parts that the routes of this app need, put them into its state, and close them when the server ends.

    Raises:
        ZapError: the database is not at head, or cannot be used.
    """
    state, engine = app.state, _opened(app.state)
    recent, follower = state.recent_sessions, state.follower
    state.production.refresh()
    # Before the first request: a later first look would forget drivers whom requests have just read.
    state.erasure_watch.look()
    state.api_keys.look(engine)
    with ExitStack() as closing:
        # Closed in reverse order, each even if another one fails.
        closing.callback(show_repeated)
        if state.tracing is not None:
            closing.callback(state.tracing.close)
        closing.callback(engine.dispose)
        closing.callback(state.reads.close)
        closing.callback(last_write, state.refusals.write, "counts of refused requests")
        closing.callback(last_write, state.serving_minutes.write_rest, "minutes of the figures of serving")
        closing.callback(state.prediction_log.close)
        closing.callback(state.driver_histories.close)
        closing.callback(recent.close)
        closing.callback(state.training_processes.close)
        closing.callback(state.explanations.close)
        if follower is not None:
            closing.callback(follower.close)
        closing.callback(state.history_counter.close)
        closing.callback(state.page_threads.close)
        closing.callback(state.key_looks.close)
        closing.callback(state.metrics_threads.close)
        closing.callback(state.batch_threads.close)
        closing.callback(state.threads.close)
        closing.enter_context(collecting_seldom())
        closing.enter_context(taking_turns())
        # Called first, so that work which still waits for the database soon gives up.
        closing.callback(state.reads.hurry)
        closing.callback(bounds_of(engine).hurry)
        await recent.begin(FIRST_READ_SECONDS)
        tasks = [asyncio.create_task(one) for one in _background(state)]
        for task in tasks:
            task.add_done_callback(_tell_error)
        try:
            with told_to_stop(state.stopping):
                yield
        finally:
            state.stopping.set()
            if follower is not None:
                follower.stop()
            await state.training_processes.end()
            await state.run_news.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _opened(state: State) -> Engine:
    """Make the parts of a serving process, and return the engine.

    Raises:
        ZapError: the database is not at head, or cannot be used.
    """
    settings: Settings = state.settings
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous, serves=True)
    # The warning that this may return is ignored, because the database watch logs it.
    check_at_head(engine)
    check_rights(engine)
    note_alarm_settings(engine, settings)
    state.engine = engine
    url = settings.read_database_url
    state.reads = ReadReplica(engine, None if url is None else create_engine(url, serves=True))
    state.reads.check()
    # Three pools: short database work of requests must not wait for batches, which compute long, or for pages, which
    # read and show much.
    state.threads = threads = Pool("requests", 8)
    state.batch_threads = Pool("batches", 2)
    state.page_threads = Pool("pages", 2)
    # A scrape has to be answered when all other threads hang.
    state.metrics_threads = Pool("metrics", 1)
    state.database_watch = DatabaseWatch(engine)
    state.database_checks = DatabaseChecks(engine)
    state.key_looks = KeyLooks(state.api_keys, engine)
    state.driver_histories = DriverHistories(engine)
    state.erasure_watch = ErasureWatch(engine, state.driver_histories)
    state.driver_rights = DriverRights(engine, settings, state.erasure_watch, threads)
    state.recent_sessions = recent = RecentSessions(engine, settings.wall_now)
    state.production = production = Production(engine, settings.model_file)
    state.prediction_log = _log(state, engine)
    state.explanations = explanations = Explanations(engine, production)
    histories, prediction_log = state.driver_histories, state.prediction_log
    state.prediction = OnePrediction(
        engine, production, histories, recent, prediction_log, settings.wall_time, explanations
    )
    state.training_processes = TrainingProcesses(engine, settings, production)
    state.follower = Follower(engine, settings) if settings.follow else None
    state.history_counter = HistoryCounter(engine)
    state.refusals = Refusals(engine)
    state.database_metrics = DatabaseMetrics(engine, settings, state.metrics)
    state.serving_minutes = ServingMinutes(engine, state.answer_counters)
    state.stopping = asyncio.Event()
    state.run_news = RunNews(engine, threads, state.stopping)
    return engine


def _log(state: State, engine: Engine) -> PredictionLog:
    parts = engine, state.answer_counters[LOG], state.production.check_serves, state.metrics.own
    return PredictionLog(*parts) if state.tracing is None else TracedLog(state.tracing, *parts)


def _background(state: State) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield what a serving process does beside requests."""
    engine: Engine = state.engine
    yield watch(state.database_watch.look, WATCH_SECONDS)
    yield watch(state.production.refresh, WATCH_SECONDS)
    yield watch(partial(state.api_keys.look, engine), WATCH_SECONDS)
    yield watch(partial(state.api_keys.store_uses, engine), USES_SECONDS)
    yield watch(state.recent_sessions.follow, WATCH_SECONDS)
    yield watch(state.erasure_watch.look, WATCH_SECONDS)
    yield watch(state.refusals.write, REFUSALS_SECONDS)
    yield watch(state.serving_minutes.look, MINUTES_SECONDS)
    yield watch(partial(prune_changes, engine), PRUNE_SECONDS)
    yield watch(partial(see_to_dead_runs, engine), DEAD_RUNS_SECONDS)
    yield _look_at_metrics(state)
    yield deliver_alarms(engine, state.settings, state.stopping)
    yield _end_trainings(state)
    yield retrain(state)
    if state.follower is not None:
        yield watch(state.follower.look, FOLLOW_SECONDS)


def _tell_error(task: asyncio.Task[None]) -> None:
    """Log the error that has ended a task beside requests, because nobody awaits the task before the server ends."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(
            "a part of the server has ended and does nothing any more",
            part=getattr(task.get_coro(), "__qualname__", ""),
            exc_info=error,
        )


async def _look_at_metrics(state: State) -> None:
    """Note each second what the metrics do not count when it happens."""
    while True:
        state.metrics.look(state)
        await asyncio.sleep(LOOK_SECONDS)


async def _end_trainings(state: State) -> None:
    """End the trainings as soon as the server is told to stop, so that requests that wait for them are answered."""
    await state.stopping.wait()
    await state.training_processes.end()
