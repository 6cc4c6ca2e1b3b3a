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
from zap.errors import TrainingFailed, ZapError
from zap.ml import training
from zap.ml.evaluation import FEWEST_DRIVERS
from zap.ml.history import History, clean_history
from zap.ml.training import Split
from zap.progress import Progress
from zap.settings import Settings

log = structlog.get_logger(__name__)

LABEL_MEANING = (
    "a charger type here is the one that the driver used, where chargers stood and were free then;"
    " not the one that would have been best"
)


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


def run_training(engine: Engine, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Train on the whole history and put the new version into production.

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
            report, version = _train(engine, settings, run_id, Phases(progress))
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


def _train(engine: Engine, settings: Settings, run_id: int, phase: Phases) -> tuple[dict[str, Any], Version]:
    """From the tables to a version in production: its report, and the version."""
    with phase("read"):
        raw = read_history(engine)
    with phase("clean"):
        history = clean_history(raw)
        split = training.split_by_time(history)
    if history.synthetic_sessions:
        log.warning("the history is synthetic", sessions=len(history.frame), synthetic=history.synthetic_sessions)
    with phase("fit") as rounds:
        model = training.fit(split, n_jobs=settings.training_threads, progress=rounds)
    with phase("evaluate"):
        scores = training.score(split, model)
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
        "message": _message(version.model_version, split, history, scores),
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
        "phases": phase.seconds,
    }
    finish_run(engine, run_id, report, version.model_version, scores)
    return report, version


def _message(model_version: int, split: Split, history: History, scores: dict[str, Any]) -> str:
    best = scores["best_baseline"]
    guess = {"prior": "the usual mix of types", "driver_share": "the driver's own past share of types"}[best]
    lines = [
        f"Version {model_version} was trained on {split.n_train:,} sessions and serves now.",
        (
            f"On the last {len(split.test):,} its weighted F1 is {scores['test_f1_score']:.3f} and its log loss"
            f" {scores['log_loss']:.3f}; guessing by {guess} has {scores['baselines'][best]['weighted_f1']:.3f} and"
            f" {scores['baselines'][best]['log_loss']:.3f}."
        ),
    ]
    if scores["beats_baseline"]:
        lines.append("The model beats guessing.")
    elif scores["log_loss_difference_interval"] is None:
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
