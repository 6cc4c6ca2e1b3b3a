"""The application: wiring and nothing else."""

from litestar import Litestar
from litestar.datastructures import State

from zap.controllers.access_log import Logged
from zap.controllers.alarms import AlarmController
from zap.controllers.audit import AuditController
from zap.controllers.batches import BatchController
from zap.controllers.charging_sessions import ChargingSessionController
from zap.controllers.data_quality import DataQualityController
from zap.controllers.deadline import in_time
from zap.controllers.docs import Documents, docs_handlers, openapi_config
from zap.controllers.drivers import DriverController
from zap.controllers.exchange import exchanged
from zap.controllers.guard import Guard
from zap.controllers.health import HealthController
from zap.controllers.keys import KeyController
from zap.controllers.metrics import MetricsController
from zap.controllers.metrics_port import with_metrics_port
from zap.controllers.models import ModelController
from zap.controllers.prediction import PredictionController
from zap.controllers.prediction_list import PredictionListController
from zap.controllers.problems import EXCEPTION_HANDLERS
from zap.controllers.proxy import behind_proxy, check_prefix, cors_config
from zap.controllers.quality import QualityController
from zap.controllers.serving import ServingController
from zap.controllers.shown_as_pages import shown_as_pages
from zap.controllers.stored_predictions import StoredPredictionController
from zap.controllers.traces import traced
from zap.controllers.training import TrainingController
from zap.controllers.training_runs import TrainingRunController
from zap.controllers.trials import TrialController
from zap.logs import configure_logs
from zap.monitoring.answer_counts import new_counters
from zap.monitoring.metric_rows import MetricRows
from zap.pages.manual import manual_handlers
from zap.pages.problems import browser_problems
from zap.pages.site import page_router
from zap.pages.templates import prepare
from zap.server.keys import Keys
from zap.server.lifespan import lifespan
from zap.server.logins import Logins
from zap.server.metrics import Metrics
from zap.server.tracing import Tracing
from zap.settings import Settings, read_settings
from zap.variables import refuse_missed_key


def create_app(settings: Settings | None = None, metrics: Metrics | None = None) -> Litestar:
    """Return the ASGI application, for `zap serve` and `uvicorn --factory zap.app:create_app`.

    The database is opened when the application starts, which fails if the database is not at head.

    Args:
        settings: by default the settings of the environment.
        metrics: the metrics of this process among the processes of its server; by default it is the only one.

    Raises:
        InvalidSettings: a setting has a wrong value, or needs a package that is not installed, or the name of
            ZAP_API_KEY has a typing error.
    """
    if settings is None:
        settings = read_settings()
        refuse_missed_key(settings)
    configure_logs(settings)
    tracing = Tracing() if settings.otel else None
    counters = new_counters()
    metrics = metrics or Metrics(MetricRows())
    keys = Keys(settings.api_key.get_secret_value() if settings.api_key else None)
    logins = Logins(keys)
    app = Litestar(
        route_handlers=[
            PredictionController,
            PredictionListController,
            StoredPredictionController,
            DataQualityController,
            BatchController,
            ChargingSessionController,
            DriverController,
            TrainingController,
            TrainingRunController,
            ModelController,
            AlarmController,
            QualityController,
            TrialController,
            ServingController,
            AuditController,
            MetricsController,
            KeyController,
            HealthController,
            *docs_handlers(),
            *manual_handlers(),
            page_router(EXCEPTION_HANDLERS),
        ],
        lifespan=[lifespan],
        on_startup=[_prepare_pages],
        state=State(
            {
                "settings": settings,
                "api_keys": keys,
                "logins": logins,
                "refused_requests": 0,
                "answer_counters": counters,
                "metrics": metrics,
                "tracing": tracing,
            }
        ),
        guards=[Guard(settings, keys, logins).check],
        middleware=[in_time],
        exception_handlers=browser_problems(EXCEPTION_HANDLERS),
        openapi_config=openapi_config(),
        cors_config=cors_config(settings),
        # `problems.py` logs the errors, with the request's id.
        logging_config=None,
    )
    check_prefix(settings.root_path, [route.path for route in app.routes])
    app.state.documents = Documents(app)
    shown = shown_as_pages(app.asgi_handler, app.routes)
    observers = [*([Logged] if settings.access_log else []), *([traced(tracing)] if tracing else [])]
    served = behind_proxy(exchanged(shown, counters, metrics.own, observers), settings)
    app.asgi_handler = with_metrics_port(served, app.state, settings)
    return app


async def _prepare_pages(app: Litestar) -> None:
    """Prepare the pages in their own threads, beside the first requests."""
    app.state.page_threads.start(prepare, app.state.stopping.is_set)
