"""One training, from the lock to the logged predictions."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Engine

from zap.db.engine import training_lock
from zap.db.history_store import read_history
from zap.db.model_registry import Version, add_candidate, export
from zap.db.training_runs import clear_unfinished_runs, fail_run, finish_run, log_train_predictions, start_run
from zap.db.tunings import DEFAULTS, add_tuning, tuned_hyper_parameters
from zap.errors import TrainingFailed, ZapError
from zap.ml import training
from zap.ml.evaluation import FEWEST_DRIVERS, with_windows
from zap.ml.history import History, clean_history
from zap.ml.training import Split
from zap.ml.tuning import Budget, Search, search
from zap.progress import Progress
from zap.settings import Settings

log = structlog.get_logger(__name__)

LABEL_MEANING = (
    "a charger type here is the one that the driver used, where chargers stood and were free then;"
    " not the one that would have been best"
)
_GUESSES = {
    "prior": "the usual mix of types",
    "driver_share": "the driver's own past share of types",
    "driver_share_time_of_day": "the driver's own past share of types at that time of day",
    "driver_share_recent": "the driver's own recent share of types",
}


class Phases:
    """Seconds spent in each phase, and whom to tell."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[int, int], None]]:
        self._progress(name, 0, 1)
        begin = time.perf_counter()
        yield lambda done, total: self._progress(name, done, total)
        self.seconds[name] = round(time.perf_counter() - begin, 4)


def run_training(
    engine: Engine, settings: Settings, progress: Progress, *, tune: bool = False, windows: bool = False
) -> dict[str, Any]:
    """Train on the whole history and put the new version into production.

    Args:
        engine: a database at head.
        settings: where the model file is, and the threads.
        progress: told of each phase.
        tune: search the hyper-parameters first; this training and later ones use what was found.
        windows: evaluate over five rolling windows too.

    Returns:
        The report: what `POST /train-model` answers with.

    Raises:
        TrainingRunning: another process is training on this database.
        UnusableHistory: there is too little to learn from; the version that was serving keeps serving.
    """
    with training_lock(engine):
        clear_unfinished_runs(engine)
        run_id = start_run(engine)
        try:
            report, version = _train(engine, settings, run_id, Phases(progress), tune=tune, windows=windows)
        except ZapError as error:
            fail_run(engine, run_id, error.problem())
            raise
        except BaseException as error:
            fail_run(engine, run_id, TrainingFailed(f"it was ended by {type(error).__name__}").problem())
            raise
        # The version serves already, from the database; the file is for data scientists.
        try:
            export(engine, version, settings.model_file)
        except (OSError, ZapError) as error:
            log.error("the model file cannot be written", file=str(settings.model_file), error=str(error))
        return report


def run_tuning(engine: Engine, settings: Settings, progress: Progress, budget: Budget) -> dict[str, Any]:
    """Search hyper-parameters on this history and store what was found, for later trainings.

    Returns:
        The number of the tuning, the hyper-parameters and the evidence.

    Raises:
        TrainingRunning: another process is training on this database.
        UnusableHistory: there is too little to learn from.
    """
    with training_lock(engine):
        phase = Phases(progress)
        _, split = _read(engine, phase)
        number, found = _tune(engine, settings, split, phase, budget)
    return {"tuning": number, "hyper_parameters": found.best.hyper_parameters, **found.evidence()}


def _read(engine: Engine, phase: Phases) -> tuple[History, Split]:
    """The cleaned history, and what was known of each driver at each session."""
    with phase("read"):
        raw = read_history(engine)
    with phase("clean"):
        history = clean_history(raw)
    if history.synthetic_sessions:
        log.warning("the history is synthetic", sessions=len(history.frame), synthetic=history.synthetic_sessions)
    with phase("features") as walked:
        return history, training.split_by_time(history, walked)


def _tune(engine: Engine, settings: Settings, split: Split, phase: Phases, budget: Budget) -> tuple[int, Search]:
    with phase("tune") as tried:
        found = search(split, budget, n_jobs=settings.training_threads, progress=tried)
    return add_tuning(engine, found.best.hyper_parameters, found.evidence()), found


def _train(  # noqa: PLR0913
    engine: Engine, settings: Settings, run_id: int, phase: Phases, *, tune: bool, windows: bool
) -> tuple[dict[str, Any], Version]:
    """From the tables to a version in production: its report, and the version."""
    history, split = _read(engine, phase)
    if tune:
        _tune(engine, settings, split, phase, Budget())
    tuned = tuned_hyper_parameters(engine)
    with phase("fit") as rounds:
        model = training.fit(split, tuned.values, n_jobs=settings.training_threads, progress=rounds)
    with phase("evaluate"):
        scores = training.score(split, model)
    if windows:
        with phase("windows") as tested:
            scores = with_windows(scores, training.score_windows(split, model, tested))
    with phase("save"):
        version = add_candidate(engine, run_id, model)
    with phase("log") as rows:
        classes = [str(name) for name in model.classes_]
        actual = split.train["charger_type"].tolist()
        probabilities = training.train_predictions(split, model)
        for done in log_train_predictions(engine, version.model_version, classes, actual, probabilities):
            rows(done, split.n_train)
    report = {
        "status": "success",
        "message": _message(version.model_version, split, history, scores, tuned=tuned.source != DEFAULTS),
        "model_path": str(settings.model_file),
        "test_f1_score": scores["test_f1_score"],
        "trained_samples": split.n_train,
        "test_samples": len(split.test),
        "model_version": version.model_version,
        **scores,
        "label_meaning": LABEL_MEANING,
        "dropped": history.dropped.as_dict(),
        "synthetic_sessions": history.synthetic_sessions,
        "hyper_parameters": model.get_params(),
        "hyper_parameters_from": tuned.source,
        "new_driver_weight": model.cold_weight_,
        "phases": phase.seconds,
    }
    finish_run(engine, run_id, report, version.model_version, scores)
    return report, version


def _message(model_version: int, split: Split, history: History, scores: dict[str, Any], *, tuned: bool) -> str:
    best = scores["best_baseline"]
    guess = _GUESSES[best]
    lines = [
        f"Version {model_version} was trained on {split.n_train:,} sessions and serves now.",
        (
            f"On the last {len(split.test):,} its weighted F1 is {scores['test_f1_score']:.3f} and its log loss"
            f" {scores['log_loss']:.3f}; guessing by {guess} has {scores['baselines'][best]['weighted_f1']:.3f} and"
            f" {scores['baselines'][best]['log_loss']:.3f}."
        ),
    ]
    judged = scores["windows"] or scores
    if scores["windows"]:
        best = judged["best_baseline"]
        lines.append(
            f"Over {len(judged['each'])} rolling windows ({judged['test_samples']:,} sessions) they are"
            f" {judged['weighted_f1']:.3f} and {judged['log_loss']:.3f}; guessing by {_GUESSES[best]} has"
            f" {judged['baselines'][best]['weighted_f1']:.3f} and {judged['baselines'][best]['log_loss']:.3f}."
        )
        if tuned:
            lines.append("All windows but the last lie inside what the search for hyper-parameters has seen.")
    if scores["beats_baseline"]:
        lines.append("The model beats guessing.")
    elif judged["log_loss_difference_interval"] is None:
        lines.append(
            f"Whether it beats guessing cannot be told: the test sessions are of fewer than {FEWEST_DRIVERS} drivers."
        )
    else:
        lines.append("The model does not beat guessing: its answers tell no more than that.")
    if history.synthetic_sessions:
        lines.append(
            f"{history.synthetic_sessions:,} of {len(history.frame):,} sessions are synthetic (zap sample-history):"
            " these scores say nothing about real drivers."
        )
    return " ".join(lines)
