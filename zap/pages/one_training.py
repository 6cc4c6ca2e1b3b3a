"""/pages/trainings/{number}: one training in full, and the question whether to cancel it."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy import Engine

from zap.db.runs.run_end import CANCELLED
from zap.db.runs.run_events import events_after
from zap.db.runs.training_runs import cancel_run, read_run
from zap.pages.models import known_number
from zap.pages.page import answer, read_form, see_other
from zap.pages.plots import MOST_POINTS, Line, Plot
from zap.pages.reader import read_reader
from zap.pages.texts import marked, texts_in
from zap.pages.trainings import lasted
from zap.public import PAGE
from zap.scopes import READ, TRAIN, needs

_FEWEST_POINTS = 2
_LOSS_LABELS = (marked("boosting rounds"), marked("log loss (nats)"), marked("training sessions"))


@get("/pages/trainings/{written:str}", opt=PAGE | needs(READ))
async def one_training(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Show a training run.

    Raises:
        NotFound: there is no such run.
    """
    number = known_number(written, "training run")
    engine, language = request.app.state.engine, read_reader(request).language
    return await answer(request, "one_training.html", lambda: _read(engine, number, language))


@get("/pages/trainings/{written:str}/cancel", opt=PAGE | needs(READ, TRAIN))
async def ask_cancel(request: Request[Any, Any, State], written: FromPath[str]) -> Response[bytes]:
    """Ask whether to cancel a training run.

    Raises:
        NotFound: there is no such run.
    """
    number = known_number(written, "training run")
    engine = request.app.state.engine
    return await answer(request, "training_cancel.html", lambda: {"run": read_run(engine, number)})


@post("/pages/trainings/{written:str}/cancel", status_code=200, opt=PAGE | needs(READ, TRAIN))
async def cancel(request: Request[Any, Any, State], written: FromPath[str]) -> Response[Any]:
    """Cancel a training run, and show it.

    Raises:
        NotFound: there is no such run.
        RunEnded: the run has already ended.
    """
    await read_form(request)
    number = known_number(written, "training run")
    state = request.app.state
    await state.threads.run(cancel_run, state.engine, number)
    return see_other(request, f"/pages/trainings/{number}")


def _read(engine: Engine, number: int, language: str) -> Mapping[str, Any]:
    run = read_run(engine, number)
    report = run["report"] or {}
    phases = report.get("phases") or {}
    return {
        "run": run,
        "seconds": lasted(run),
        "report": report,
        "cancelled": CANCELLED,
        "phases": phases,
        "longest": max(phases.values(), default=0.0) or 1.0,
        "plot": _losses(engine, number, language),
    }


def _losses(engine: Engine, number: int, language: str) -> Plot | None:
    """Return the plot of the log loss while boosting; None without events, which are kept for the newest runs."""
    points = [
        (data["done"], data["log_loss"])
        for _, data in events_after(engine, number, 0)
        if data.get("phase") == "fit" and data.get("log_loss") is not None
    ]
    if len(points) < _FEWEST_POINTS:
        return None
    # With too many points each n-th one, and always the last one.
    step = -(-len(points) // MOST_POINTS)
    shown = points[::-step][::-1]
    x_label, y_label, name = map(texts_in(language).translations.gettext, _LOSS_LABELS)
    line = Line(name, [loss for _, loss in shown])
    return Plot([done for done, _ in shown], [line], x_label, y_label, is_time=False, decimals=3)
