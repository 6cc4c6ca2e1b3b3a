"""/pages/models/.../trial: begin and end the trial of a version, each after a question that says what will happen."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy import Engine

from zap.db.monitoring.trials import MOST_RUNNING, newest_trial, trials_now
from zap.db.versions.model_registry import production_version, read_version
from zap.errors import InvalidRequest, NotFound
from zap.flows.trials import stop_trial, try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions, needed_for
from zap.pages.fields import errors_by_field, filled, numbers
from zap.pages.model_changes import WHO_AND_WHY
from zap.pages.models import known_number
from zap.pages.page import answer, read_form, see_other
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import PAGE
from zap.scopes import READ, TRAIN, needs
from zap.sentences import say
from zap.server.access import check_scopes, name_of


@get("/pages/models/{written:str}/trial", opt=PAGE | needs(READ, TRAIN))
async def ask_try(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Show the options of a trial, and what a trial does.

    Raises:
        NotFound: there is no such version.
    """
    number = known_number(written, "model version")
    engine, language = request.app.state.engine, read_reader(request).language
    return await answer(
        request, "trial_begin.html", lambda: {**_read(engine, number), "form": _defaults(language), "errors": {}}
    )


@post("/pages/models/{written:str}/trial", status_code=200, opt=PAGE | needs(READ, TRAIN))
async def try_model(request: Request[Any, Any, State], written: FromPath[str]) -> Response[Any]:
    """Begin a trial. If an option is wrong, the form is shown again.

    Raises:
        NotFound: there is no such version.
        TrialRefused: the version cannot be on trial now.
    """
    form = await read_form(request)
    number = known_number(written, "model version")
    state, language = request.app.state, read_reader(request).language
    try:
        options = TrialOptions.read(
            {**filled(form, ("on_better", *WHO_AND_WHY)), **numbers(form, ("weeks", "epsilon"), language)}
        ).said_by(name_of(request.scope))
    except InvalidRequest as refused:
        shown = {"form": form, "errors": errors_by_field(refused)}
        return await answer(request, "trial_begin.html", lambda: {**_read(state.engine, number), **shown}, status=422)
    check_scopes(request.scope, needed_for(options.on_better), f"on_better: {options.on_better}")
    await state.threads.to_its_end(try_version, state.engine, number, options)
    return see_other(request, f"/pages/models/{number}")


@get("/pages/models/{written:str}/trial/end", opt=PAGE | needs(READ, TRAIN))
async def ask_end_trial(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Ask whether to end the trial of a version.

    Raises:
        NotFound: the version is not on trial.
    """
    number = known_number(written, "model version")
    engine = request.app.state.engine
    return await answer(
        request, "trial_end.html", lambda: {"trial": _running(engine, number), "form": {}, "errors": {}}
    )


@post("/pages/models/{written:str}/trial/end", status_code=200, opt=PAGE | needs(READ, TRAIN))
async def end_trial(request: Request[Any, Any, State], written: FromPath[str]) -> Response[Any]:
    """End the trial of a version, without a verdict.

    Raises:
        NotFound: the version is not on trial.
    """
    form = await read_form(request)
    number = known_number(written, "model version")
    state = request.app.state
    try:
        reason = Reason.read(filled(form, WHO_AND_WHY)).said_by(name_of(request.scope))
    except InvalidRequest as refused:
        shown = {"form": form, "errors": errors_by_field(refused)}
        return await answer(
            request, "trial_end.html", lambda: {"trial": _running(state.engine, number), **shown}, status=422
        )
    await state.threads.to_its_end(stop_trial, state.engine, number, reason)
    return see_other(request, f"/pages/models/{number}")


def _defaults(language: str) -> dict[str, str]:
    """Return the options of a trial as a new form has them. It may read a catalogue, so call it in a thread."""
    defaults, plain = TrialOptions(), texts_in(language).plain
    return {"weeks": plain(defaults.weeks), "epsilon": plain(defaults.epsilon), "on_better": defaults.on_better}


def _read(engine: Engine, number: int) -> Mapping[str, Any]:
    serving = production_version(engine)
    return {
        "target": read_version(engine, number),
        "serving": None if serving is None else read_version(engine, serving.model_version),
        "on_trial": [one["model_version"] for one in trials_now(engine)],
        "most": MOST_RUNNING,
    }


def _running(engine: Engine, number: int) -> dict[str, Any]:
    trial = newest_trial(engine, number)
    if trial is None or trial["status"] != "running":
        raise NotFound(say("version {number} is not on trial", number=number))
    return trial
