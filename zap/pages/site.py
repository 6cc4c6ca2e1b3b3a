"""The routes of all pages."""

from typing import Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ExceptionHandlersMap

from zap.pages.alarms import acknowledge, acknowledged, alarms
from zap.pages.assets import asset
from zap.pages.audit import audit
from zap.pages.choices import choose
from zap.pages.data import data
from zap.pages.data_fields import fields
from zap.pages.data_history import history
from zap.pages.driver import driver, driver_by_id
from zap.pages.driver_erasure import ask_erase, erase, export
from zap.pages.key_changes import ask_revoke, ask_rotate, revoke, rotate
from zap.pages.keys import create, keys
from zap.pages.login import log_in, log_out, login_page
from zap.pages.model_changes import ask_promote, ask_roll_back, promote, roll_models_back
from zap.pages.model_comparison import compare_models
from zap.pages.models import models
from zap.pages.one_model import one_model
from zap.pages.one_prediction import one_prediction
from zap.pages.one_training import ask_cancel, cancel, one_training
from zap.pages.overview import overview, train_first
from zap.pages.page import see_other
from zap.pages.predictions import predictions
from zap.pages.problems import page_problems
from zap.pages.quality import quality
from zap.pages.trainings import start_training, trainings
from zap.pages.trial_changes import ask_end_trial, ask_try, end_trial, try_model
from zap.pages.try_it import ask, try_it
from zap.public import PAGE
from zap.scopes import READ, needs

# Each page adds its routes here.
_DATA = [data, fields, history]
_MODELS = [models, one_model, compare_models, ask_promote, promote, ask_roll_back, roll_models_back]
_TRIALS = [ask_try, try_model, ask_end_trial, end_trial]
_TRAININGS = [trainings, start_training, one_training, ask_cancel, cancel]
_PREDICTIONS = [predictions, one_prediction, try_it, ask, driver, driver_by_id, ask_erase, erase, export]
_ADMIN = [audit, keys, create, ask_rotate, rotate, ask_revoke, revoke]
_ALARMS = [alarms, acknowledge, acknowledged]
_PAGES = [overview, train_first, quality, *_ADMIN, *_ALARMS, *_DATA, *_MODELS, *_TRIALS, *_TRAININGS, *_PREDICTIONS]


def page_router(problems: ExceptionHandlersMap) -> Router:
    """Return the routes of the pages, whose errors are pages too.

    Args:
        problems: the exception handlers of the JSON routes.
    """
    return Router(
        "/",
        route_handlers=[*_PAGES, login_page, log_in, log_out, choose, asset, _only_form, _unknown],
        exception_handlers=page_problems(problems),
        include_in_schema=False,
    )


@get(["/pages/choices", "/pages/logout", "/pages/first-training"], opt=PAGE | needs(READ))
async def _only_form(request: Request[Any, Any, Any]) -> Response[None]:
    """Go to the overview: the form was refused, and now the browser asks for its address."""
    return see_other(request, "/")


@get("/pages/{rest:path}", opt=PAGE | needs(READ))
async def _unknown(rest: FromPath[str]) -> None:
    del rest
    raise NotFoundException
