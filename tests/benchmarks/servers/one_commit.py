"""zap's own model, features and log, where each request is a commit of its own on the event loop."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, post
from litestar.datastructures import State
from litestar.params import RawBody
from settled import settle

from zap.controllers.prediction_reply import PredictReply
from zap.db.engine import create_engine
from zap.db.history.driver_histories import DriverHistories
from zap.db.log.prediction_log import PredictionLog
from zap.db.tables import utc_now
from zap.db.versions.production import Production
from zap.formats.request import USER_ID, complete_request, parse_request
from zap.ml.cells import to_seconds
from zap.settings import read_settings


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, Any]:
    settings = read_settings()
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    production = Production(engine, settings.model_file)
    production.refresh()
    app.state.update(
        settings=settings,
        predictor=production.predictor,
        driver_histories=DriverHistories(engine),
        prediction_log=PredictionLog(engine),
    )
    settle()
    yield
    app.state.driver_histories.close()
    engine.dispose()


@post("/predict", status_code=200)
async def predict(body: RawBody, state: State) -> PredictReply:
    received_at = utc_now()
    wall_time, predictor = state.settings.wall_time, state.predictor
    parsed = parse_request(body, wall_time)
    values = complete_request(parsed, {}, predictor.contract, now=wall_time(received_at))
    history = state.driver_histories.read(
        parsed.values.get(USER_ID), to_seconds(values["charging_start_time"]), predictor.types
    )
    answer = predictor.answer(values, history)
    return PredictReply.of(answer, state.prediction_log.write(parsed.text, received_at, answer))


app = Litestar([predict], lifespan=[lifespan], openapi_config=None, logging_config=None)
