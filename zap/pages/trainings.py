"""/pages/trainings: start a training with its options, follow the training that runs, and see the past ones."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State

from zap.db.history.history_rows import has_history
from zap.db.runs.training_runs import list_runs, read_run, running_run
from zap.db.versions.tunings import DEFAULTS, HyperParameters, tuned_hyper_parameters
from zap.errors import DamagedRow, InvalidRequest
from zap.formats.training_options import HYPER_PARAMETERS, LEFT_OUT, TrainingOptions, needed_for
from zap.formats.values import LARGEST_ID
from zap.ml.column_groups import GROUPS
from zap.pages.fields import errors_by_field, filled, numbers
from zap.pages.models import Before
from zap.pages.page import answer, read_form, see_other
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import PAGE
from zap.scopes import READ, TRAIN, needs
from zap.server.access import check_scopes
from zap.server.training_jobs import TrainingProcesses

_RUNS = 15
_TEXTS = ("history_from", "history_to", "estimator", "promote", "note")
_NUMBERS = ("test_share", "tune_seed")
_SWITCHES = ("windows", "tune", "nested")
# The field of a box is this prefix and the name of a group of columns.
_BOX = f"{LEFT_OUT}."


@get("/pages/trainings", opt=PAGE | needs(READ))
async def trainings(request: Request[Any, Any, State], before: Before = LARGEST_ID) -> Response[bytes]:
    """Show the options of a training, the training that runs, and the past ones, newest first."""
    state, language = request.app.state, read_reader(request).language
    return await answer(
        request, "trainings.html", lambda: {**_read(state, before), "form": _defaults(language), "errors": {}}
    )


@post("/pages/trainings", status_code=200, opt=PAGE | needs(READ, TRAIN))
async def start_training(request: Request[Any, Any, State]) -> Response[Any]:
    """Start a training, and show it. If an option is wrong, the form is shown again.

    Raises:
        TrainingRunning: another training is running.
        ServerStopping: the server has been told to stop.
    """
    form = await read_form(request)
    state = request.app.state
    try:
        fields = options_of(form, read_reader(request).language)
        options = await state.page_threads.run(TrainingOptions.read, fields, state.settings.wall_time)
    except InvalidRequest as refused:
        shown = {"form": form, "errors": errors_by_field(refused)}
        return await answer(request, "trainings.html", lambda: {**_read(state, LARGEST_ID), **shown}, status=422)
    check_scopes(request.scope, needed_for(options.promote), f"promote: {options.promote}")
    processes: TrainingProcesses = state.training_processes
    return see_other(request, f"/pages/trainings/{await processes.start(options)}")


def options_of(form: Mapping[str, str], language: str) -> dict[str, Any]:
    """Return the options in a form, as JSON. An empty field is left out, so that its default counts."""
    parameters = numbers(form, (one.name for one in HYPER_PARAMETERS), language)
    left_out = [group for group in GROUPS if f"{_BOX}{group}" in form]
    if left_out:
        parameters[LEFT_OUT] = left_out
    return {
        **filled(form, _TEXTS),
        **numbers(form, _NUMBERS, language),
        **{name: True for name in _SWITCHES if name in form},
        **({"hyper_parameters": parameters} if parameters else {}),
    }


def lasted(run: Mapping[str, Any]) -> float | None:
    """Return how many seconds a run lasted; None if it has not ended. Another program may write times of any kind."""
    begin, end = run["started_at"], run["finished_at"]
    if not isinstance(begin, datetime) or not isinstance(end, datetime):
        return None
    return (end.replace(tzinfo=end.tzinfo or UTC) - begin.replace(tzinfo=begin.tzinfo or UTC)).total_seconds()


def _defaults(language: str) -> dict[str, str]:
    """Return the options of a training as a new form has them. It may read a catalogue, so call it in a thread."""
    defaults = TrainingOptions()
    share = texts_in(language).plain(defaults.test_share)
    return {"test_share": share, "estimator": defaults.estimator, "promote": defaults.promote}


def _read(state: State, before: int) -> Mapping[str, Any]:
    engine = state.engine
    running = running_run(engine)
    found = list_runs(engine, _RUNS + 1, before, with_results=True)
    runs, damaged = found[:_RUNS], None
    try:
        tuned = tuned_hyper_parameters(engine)
    except DamagedRow as error:
        tuned, damaged = HyperParameters({}, DEFAULTS), error.message
    return {
        "run": None if running is None else read_run(engine, running),
        "has_history": has_history(engine),
        "runs": [{**one, "seconds": lasted(one)} for one in runs],
        "older": runs[-1]["run_id"] if len(found) > _RUNS else None,
        "is_newest": before == LARGEST_ID,
        "parameters": [(one, _used(one.name, one.example, tuned)) for one in HYPER_PARAMETERS],
        "tuned_from": tuned.source if tuned.values else None,
        "tuned_damaged": damaged,
        "groups": list(GROUPS),
        "box_name": _BOX,
    }


def _used(name: str, default: float | str | None, tuned: HyperParameters) -> Any:
    """Return the value that a training uses without a value in the form."""
    return tuned.values.get(name, default)
