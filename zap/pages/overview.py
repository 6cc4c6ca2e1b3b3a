"""GET /: what serves and how good it is, what is wrong, what is trained. Before all that: the first steps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from litestar import Request, Response, get, post
from sqlalchemy import Engine

from zap.db.history.history_rows import has_history
from zap.db.monitoring.alarms import list_alarms
from zap.db.monitoring.trials import trials_now
from zap.db.runs.training_runs import read_run, running_run
from zap.db.tables import utc_now
from zap.db.versions.model_registry import list_versions, production_version, read_version
from zap.db.versions.promotions import list_promotions, rollback_target
from zap.flows.quality import Question, read_quality
from zap.flows.serving_glance import serving_glance
from zap.formats.training_options import TrainingOptions
from zap.pages.alarms import alarm_of
from zap.pages.page import answer_reading, read_form, see_other
from zap.public import PAGE
from zap.scopes import PROMOTE, READ, TRAIN, needs
from zap.server.training_jobs import TrainingProcesses
from zap.settings import Settings

# The alarms that are read, and the alarms and versions that are shown at once.
_ALARMS, _SHOWN_ALARMS, _VERSIONS = 20, 3, 3
_INTERVAL = "log_loss_difference_interval"


class Verdict(NamedTuple):
    """Whether the version in production is any good, as far as it is known.

    Attributes:
        result: `better`, `not_shown` or `worse` than guessing; None if nothing is known.
        is_live: whether real sessions say so; otherwise the test of the version says so.
        right: the share of right answers; None for a version of an older zap.
        guessed_right: the share of right answers of the best simple rule; None if it was not measured.
        sessions: the number of sessions behind the verdict.
    """

    result: str | None
    is_live: bool
    right: float | None
    guessed_right: float | None
    sessions: int | None


@get("/", opt=PAGE | needs(READ))
async def overview(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show the overview, or the first steps while no version is in production."""
    state = request.app.state
    return await answer_reading(request, "overview.html", _read, state.settings)


@post("/pages/first-training", status_code=200, opt=PAGE | needs(READ, TRAIN, PROMOTE))
async def train_first(request: Request[Any, Any, Any]) -> Response[Any]:
    """Start a training with the default options, and show it on the overview."""
    await read_form(request)
    state = request.app.state
    options = await state.threads.run(TrainingOptions.parse, b"", state.settings.wall_time)
    processes: TrainingProcesses = state.training_processes
    await processes.start(options)
    return see_other(request, "/")


def _read(engine: Engine, settings: Settings) -> Mapping[str, Any]:
    version, running = production_version(engine), running_run(engine)
    alarms = list_alarms(engine, _ALARMS, standing=True)
    harm = None if version is None else alarm_of(alarms, "harm", version.model_version)
    serving = None if version is None else _serving(engine, version.model_version)
    live = None if version is None else _live(engine, settings, version.model_version)
    return {
        "now": utc_now(),
        "serving": serving,
        "live": live,
        "verdict": serving and _verdict(serving, live and live["scores"]),
        "scale": _scale(serving, live),
        "glance": serving_glance(engine),
        "has_history": version is not None or has_history(engine),
        "alarms": alarms,
        "harm": harm,
        "earlier": harm and rollback_target(engine),
        "shown_alarms": _SHOWN_ALARMS,
        "run": None if running is None else read_run(engine, running),
        "trials": trials_now(engine),
        "versions": list_versions(engine, _VERSIONS),
    }


def _verdict(serving: Mapping[str, Any], live: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict of real sessions; if they are of too few drivers, the verdict of the test."""
    if live and (interval := live[_INTERVAL]):
        result = "better" if interval[1] < 0 else "worse" if interval[0] > 0 else "not_shown"
        return Verdict(result, True, live["accuracy"], live["guessing"]["accuracy"], live["sessions"])
    return Verdict(serving["verdict"], False, serving["accuracy"], None, serving["sessions"])


def _scale(serving: Mapping[str, Any] | None, live: Mapping[str, Any] | None) -> tuple[float, float]:
    """Return the ends of one line for the promised interval and the live one, so that they can be compared."""
    intervals = [serving and serving["interval"], live and live["scores"] and live["scores"][_INTERVAL]]
    ends = [end for one in intervals for end in one or ()]
    return (min(ends, default=0.0), max(ends, default=0.0))


def _serving(engine: Engine, number: int) -> dict[str, Any]:
    """Return what is known about the version in production, and what its test promised."""
    version = read_version(engine, number)
    evaluation = version["evaluation"] or {}
    newest = list_promotions(engine, 1)
    judged = evaluation.get("judged") or {}
    return {
        "number": number,
        "since": newest[0]["promoted_at"] if newest and newest[0]["to_version"] == number else version["created_at"],
        "trained_samples": version["trained_samples"],
        "trained_until": version["trained_until"],
        "scores": version["scores"],
        "sessions": version["test_samples"],
        "accuracy": evaluation.get("accuracy"),
        "difference": evaluation.get("log_loss_difference"),
        "interval": evaluation.get(_INTERVAL),
        "verdict": judged.get("verdict"),
        "unreadable": version["unreadable"],
        "is_synthetic": bool(version["synthetic_sessions"]),
    }


def _live(engine: Engine, settings: Settings, number: int) -> dict[str, Any] | None:
    """Return the live scores of the version in production; None without answers in the last 90 days."""
    now: datetime = settings.wall_now()
    # Version 0 does not exist: of no version are all scores computed, because the overview shows only the main ones.
    report = read_quality(engine, Question(model_version=number, detailed=0, guessing=True), now, settings.horizon)
    if not report["versions"]:
        return None
    (version,) = report["versions"]
    final = version["final"]
    return {
        "final": final,
        "provisional": version["provisional"],
        "scores": final and final["scores"],
        "expected": version["expected"],
    }
