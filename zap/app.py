"""The application: wiring and nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.datastructures import State

from zap.controllers.access import identify_requests, require_api_key
from zap.controllers.batches import BatchController
from zap.controllers.charging_sessions import ChargingSessionController
from zap.controllers.docs import docs_handlers, openapi_config
from zap.controllers.health import HealthController
from zap.controllers.models import ModelController
from zap.controllers.prediction import PredictionController
from zap.controllers.problems import EXCEPTION_HANDLERS
from zap.controllers.training import TrainingController
from zap.controllers.training_runs import TrainingRunController
from zap.db.driver_histories import DriverHistories
from zap.db.engine import create_engine
from zap.db.prediction_log import PredictionLog
from zap.db.production import Production
from zap.db.schema import check_at_head
from zap.db.training_runs import see_to_dead_runs
from zap.interpreter import collecting_seldom, taking_turns
from zap.logs import configure_logs
from zap.settings import Settings, read_settings
from zap.stopping import told_to_stop
from zap.training_process import TrainingProcesses
from zap.watch import watch

# A change anywhere is noticed within two of these.
WATCH_SECONDS = 0.5
# How often somebody looks for a training that died.
DEAD_RUNS_SECONDS = 2.0


def create_app(settings: Settings | None = None) -> Litestar:
    """The ASGI application: `uvicorn --factory zap.app:create_app` and `zap serve`.

    Nothing is opened before it starts. Its start refuses a database that is not at head.
    """
    settings = settings or read_settings()
    configure_logs(settings)
    app = Litestar(
        route_handlers=[
            PredictionController,
            BatchController,
            ChargingSessionController,
            TrainingController,
            TrainingRunController,
            ModelController,
            HealthController,
            *docs_handlers(),
        ],
        lifespan=[_lifespan],
        state=State(
            {
                "settings": settings,
                "api_key": settings.api_key and settings.api_key.get_secret_value(),
                "refused_requests": 0,
            }
        ),
        guards=[require_api_key],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        # Errors are logged where they become problem details, with the request's id.
        logging_config=None,
    )
    # Litestar's own middleware sees only requests that have a route.
    app.asgi_handler = identify_requests(app.asgi_handler)
    return app


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncGenerator[None, Any]:
    settings: Settings = app.state.settings
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    check_at_head(engine)
    app.state.engine = engine
    app.state.driver_histories = DriverHistories(engine)
    app.state.prediction_log = PredictionLog(engine)
    app.state.production = production = Production(engine, settings.model_file)
    app.state.training_processes = TrainingProcesses(engine, settings, production)
    app.state.stopping = asyncio.Event()
    production.refresh()
    with ExitStack() as closing:
        # The last first, each whatever becomes of the others.
        closing.callback(engine.dispose)
        closing.callback(app.state.prediction_log.close)
        closing.callback(app.state.driver_histories.close)
        closing.enter_context(collecting_seldom())
        closing.enter_context(taking_turns())
        tasks = [
            asyncio.create_task(watch(production.refresh, WATCH_SECONDS)),
            asyncio.create_task(watch(partial(see_to_dead_runs, engine), DEAD_RUNS_SECONDS)),
            asyncio.create_task(_end_trainings(app.state)),
        ]
        try:
            with told_to_stop(app.state.stopping):
                yield
        finally:
            app.state.stopping.set()
            await app.state.training_processes.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _end_trainings(state: State) -> None:
    """At once when the server is told to stop, so that whoever waits for one is still answered."""
    await state.stopping.wait()
    await state.training_processes.end()
