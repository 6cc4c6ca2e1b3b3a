"""The lifespan of a serving process: opening its parts before the first request, closing them after the last one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.datastructures import State

from zap.db.database_watch import DatabaseWatch
from zap.db.engine import bounds_of, create_engine
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.recent_sessions import RecentSessions
from zap.db.history.session_changes import prune_changes
from zap.db.log.prediction_log import PredictionLog
from zap.db.runs.dead_runs import see_to_dead_runs
from zap.db.schema import check_at_head, check_rights
from zap.db.versions.production import Production
from zap.flows.prediction import OnePrediction
from zap.logs import show_repeated
from zap.server.database_checks import DatabaseChecks
from zap.server.follower import FOLLOW_SECONDS, Follower
from zap.server.interpreter import collecting_seldom, taking_turns
from zap.server.run_news import RunNews
from zap.server.stopping import told_to_stop
from zap.server.training_jobs import TrainingProcesses
from zap.server.watch import watch
from zap.settings import Settings
from zap.threads import Pool

# The pause between two looks of a watch. A change on another machine is noticed within twice this time.
WATCH_SECONDS = 0.5
# How long the start waits for the recent sessions, so that the first requests need not wait for them.
FIRST_READ_SECONDS = 10.0
# The pause between two looks for trainings that died.
DEAD_RUNS_SECONDS = 2.0
# The pause between two looks for changes of sessions that all servers have seen.
PRUNE_SECONDS = 60.0


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, Any]:
    """Open the parts that the routes of this app need, put them into its state, and close them when the server ends.

    Raises:
        ZapError: the database is not at head, or cannot be used.
    """
    settings: Settings = app.state.settings
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous, serves=True)
    # The warning that this may return is ignored, because the database watch logs it.
    check_at_head(engine)
    check_rights(engine)
    app.state.engine = engine
    # Two pools: short database work of requests must not wait for batches, which compute long.
    app.state.threads = threads = Pool("requests", 8)
    app.state.batch_threads = batch_threads = Pool("batches", 2)
    app.state.database_watch = DatabaseWatch(engine)
    app.state.database_checks = DatabaseChecks(engine)
    app.state.driver_histories = DriverHistories(engine)
    app.state.recent_sessions = recent = RecentSessions(engine, settings.wall_now)
    app.state.prediction_log = PredictionLog(engine)
    app.state.production = production = Production(engine, settings.model_file)
    app.state.prediction = OnePrediction(
        engine, production, app.state.driver_histories, recent, app.state.prediction_log, settings.wall_time
    )
    app.state.training_processes = TrainingProcesses(engine, settings, production)
    app.state.follower = follower = Follower(engine, settings) if settings.follow else None
    app.state.stopping = asyncio.Event()
    app.state.run_news = RunNews(engine, threads, app.state.stopping)
    production.refresh()
    with ExitStack() as closing:
        # Closed in reverse order, each even if another one fails.
        closing.callback(show_repeated)
        closing.callback(engine.dispose)
        closing.callback(app.state.prediction_log.close)
        closing.callback(app.state.driver_histories.close)
        closing.callback(recent.close)
        closing.callback(app.state.training_processes.close)
        if follower is not None:
            closing.callback(follower.close)
        closing.callback(batch_threads.close)
        closing.callback(threads.close)
        closing.enter_context(collecting_seldom())
        closing.enter_context(taking_turns())
        # Called first, so that work which still waits for the database soon gives up.
        closing.callback(bounds_of(engine).hurry)
        await recent.begin(FIRST_READ_SECONDS)
        tasks = [
            asyncio.create_task(watch(app.state.database_watch.look, WATCH_SECONDS)),
            asyncio.create_task(watch(production.refresh, WATCH_SECONDS)),
            asyncio.create_task(watch(recent.follow, WATCH_SECONDS)),
            asyncio.create_task(watch(partial(prune_changes, engine), PRUNE_SECONDS)),
            asyncio.create_task(watch(partial(see_to_dead_runs, engine), DEAD_RUNS_SECONDS)),
            asyncio.create_task(_end_trainings(app.state)),
        ]
        if follower is not None:
            tasks.append(asyncio.create_task(watch(follower.look, FOLLOW_SECONDS)))
        try:
            with told_to_stop(app.state.stopping):
                yield
        finally:
            app.state.stopping.set()
            if follower is not None:
                follower.stop()
            await app.state.training_processes.end()
            await app.state.run_news.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _end_trainings(state: State) -> None:
    """End the trainings as soon as the server is told to stop, so that requests that wait for them are answered."""
    await state.stopping.wait()
    await state.training_processes.end()
