"""One training, from the lock to the logged predictions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import write_transaction
from zap.db.history_store import read_history
from zap.db.model_file import export
from zap.db.model_registry import (
    Version,
    add_candidate,
    load_version,
    production_version,
    prune_candidates,
    read_version,
)
from zap.db.promotions import promote, serving_version
from zap.db.train_predictions import log_train_predictions
from zap.db.training_lease import Lease, run_lease
from zap.db.training_runs import claim_run, finish_run, prune_events, remove_leftovers
from zap.db.tunings import HyperParameters, add_tuning, tuned_hyper_parameters
from zap.errors import DamagedModel, ZapError
from zap.ml import training
from zap.ml.artefact import describe_features
from zap.ml.evaluation import FEWEST_DRIVERS, with_windows
from zap.ml.fingerprint import code_version, libraries, rows_fingerprint, trees_sha256
from zap.ml.gate import Decision, decide_if_better
from zap.ml.golden import golden_rows
from zap.ml.history import History, clean_history
from zap.ml.memory import give_back
from zap.ml.model import ChargerTypeModel, Rounds
from zap.ml.promotion_reason import Reason
from zap.ml.training import Split
from zap.ml.training_options import TrainingOptions
from zap.ml.tuning import Budget, Search, search
from zap.progress import Progress, no_progress
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


PLAIN = TrainingOptions()


@dataclass(frozen=True)
class _Trained:
    """What a report is about."""

    history: History
    split: Split
    model: ChargerTypeModel
    chosen: HyperParameters
    scores: dict[str, Any]
    model_version: int
    run_id: int


class Phases:
    """Seconds spent in each phase, and whom to tell."""

    def __init__(self, *progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[Rounds]:
        def tell(done: int, total: int, log_loss: float | None = None, /) -> None:
            for progress in self._progress:
                progress(name, done, total, log_loss)

        tell(0, 1)
        begin = time.perf_counter()
        yield tell
        self.seconds[name] = round(time.perf_counter() - begin, 4)


def run_training(
    engine: Engine,
    settings: Settings,
    progress: Progress = no_progress,
    options: TrainingOptions = PLAIN,
    *,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Train on the history, store the new version, and let it serve if that is wanted.

    Args:
        engine: a database at head.
        settings: where the model file is, the threads, and how many candidates are kept.
        progress: told of each phase.
        options: what is asked for.
        lease: of a run that was claimed; by default a run of its own.

    Returns:
        The report: what `POST /train-model` answers with.

    Raises:
        TrainingRunning: another training is running on this database.
        TrainingCancelled: somebody ended it.
        UnusableHistory: there is too little to learn from; the version that was serving keeps serving.
    """
    if lease is None:
        with run_lease(engine, claim_run(engine, "train", options.as_dict())) as own:
            return run_training(engine, settings, progress, options, lease=own)
    remove_leftovers(engine)
    report, promoted = _train(engine, settings, lease, Phases(progress, lease.tell), options)
    if promoted is not None:
        # The version serves already, from the database; the file is for data scientists.
        try:
            export(engine, promoted, settings.model_file)
        except (OSError, SQLAlchemyError, ZapError) as error:
            log.error("the model file cannot be written", file=str(settings.model_file), error=str(error))
    return report


def run_tuning(
    engine: Engine, settings: Settings, progress: Progress, budget: Budget, *, lease: Lease | None = None
) -> dict[str, Any]:
    """Search hyper-parameters on this history and store what was found, for later trainings.

    Returns:
        The number of the tuning, the hyper-parameters and the evidence.

    Raises:
        TrainingRunning: another training is running on this database.
        TrainingCancelled: somebody ended it.
        UnusableHistory: there is too little to learn from.
    """
    if lease is None:
        with run_lease(engine, claim_run(engine, "tune", budget._asdict())) as own:
            return run_tuning(engine, settings, progress, budget, lease=own)
    phase = Phases(progress, lease.tell)
    remove_leftovers(engine)
    _, split = _read(engine, phase, PLAIN)
    found = _search(settings, split, phase, budget)
    with lease.last_transaction() as connection:
        evidence = _evidence(found, split)
        number = add_tuning(connection, found.best.hyper_parameters, evidence)
        report = {"tuning": number, "hyper_parameters": found.best.hyper_parameters, **evidence}
        finish_run(connection, lease.run_id, report)
    return report


def _read(engine: Engine, phase: Phases, options: TrainingOptions) -> tuple[History, Split]:
    """The cleaned history, and what was known of each driver at each session."""
    with phase("read"):
        raw = read_history(engine)
    with phase("clean"):
        history = clean_history(raw)
        del raw
        give_back()
    if history.synthetic_sessions:
        log.warning("the history is synthetic", sessions=len(history.frame), synthetic=history.synthetic_sessions)
    with phase("features") as walked:
        split = training.split_by_time(
            history,
            walked,
            since=options.history_from,
            until=options.history_to,
            test_share=options.test_share,
        )
        give_back()
        return history, split


def _search(settings: Settings, split: Split, phase: Phases, budget: Budget) -> Search:
    with phase("tune") as tried:
        return search(split, budget, n_jobs=settings.training_threads, progress=tried)


def _evidence(found: Search, split: Split) -> dict[str, Any]:
    """What a search found, and the start of the newest session that it has seen."""
    return {**found.evidence(), "seen_until": split.train["charging_start_time"].iloc[-1].isoformat()}


def _hyper_parameters(engine: Engine, options: TrainingOptions) -> HyperParameters:
    """What this training sets: the request's word goes before what a search found."""
    tuned = tuned_hyper_parameters(engine)
    if not options.hyper_parameters:
        return tuned
    source = f"{tuned.source}, and the request: {', '.join(options.hyper_parameters)}"
    return HyperParameters({**tuned.values, **options.hyper_parameters}, source, tuned.seen_until)


def _train(
    engine: Engine, settings: Settings, lease: Lease, phase: Phases, options: TrainingOptions
) -> tuple[dict[str, Any], Version | None]:
    """From the tables to a finished run: its report, and the version where it serves now."""
    history, split = _read(engine, phase, options)
    if options.tune:
        found = _search(settings, split, phase, Budget())
        with write_transaction(engine) as connection:
            lease.check(connection)
            add_tuning(connection, found.best.hyper_parameters, _evidence(found, split))
    chosen = _hyper_parameters(engine, options)
    with phase("fit") as rounds:
        model, probabilities = training.fit_and_predict(
            split, chosen.values, n_jobs=settings.training_threads, progress=rounds
        )
        give_back()
    with phase("evaluate"):
        scores = training.score(split, model)
    if options.windows:
        with phase("windows") as tested:
            scores = with_windows(scores, training.score_windows(split, model, tested))
    decision = _decide(engine, split, model, chosen, phase, options)
    with phase("save"):
        known = _known(split, model, options) | {
            "hyper_parameters_from": chosen.source,
            "tuned_until": chosen.seen_until,
            "evaluation": scores,
        }
        artefact = model.to_bytes()
        with write_transaction(engine) as connection:
            lease.check(connection)
            version = add_candidate(connection, lease.run_id, artefact, known)
    with phase("log") as logged:
        classes = [str(name) for name in model.classes_]
        rows = log_train_predictions(
            engine, lease.check, version.model_version, classes, split.train_types, probabilities
        )
        for done in rows:
            logged(done, split.n_train)
    with lease.last_transaction() as connection:
        decision = _still(decision, serving_version(connection))
        if decision.promoted:
            promote(connection, version.model_version, Reason(why=f"training run {lease.run_id}: {decision.reason}"))
        trained = _Trained(history, split, model, chosen, scores, version.model_version, lease.run_id)
        report = _report(trained, decision, options) | {"phases": phase.seconds, "model_path": str(settings.model_file)}
        finish_run(connection, lease.run_id, report)
        prune_candidates(connection, settings.keep_candidates)
        prune_events(connection)
    return report, version if decision.promoted else None


def _decide(  # noqa: PLR0913, PLR0917
    engine: Engine,
    split: Split,
    model: ChargerTypeModel,
    chosen: HyperParameters,
    phase: Phases,
    options: TrainingOptions,
) -> Decision:
    """Whether the new version is to serve."""
    if options.promote == "always":
        return Decision(promoted=True, reason="every training is promoted unless it is asked otherwise")
    if options.promote == "never":
        return Decision(promoted=False, reason="it was asked to stay a candidate")
    serving = production_version(engine)
    if serving is None:
        return Decision(promoted=True, reason="nothing served before it", depends=True)
    number = serving.model_version
    with phase("compare"):
        try:
            production = ChargerTypeModel.from_fitted(load_version(engine, serving))
        except DamagedModel as error:
            reason = f"version {number} cannot be loaded here, so there is nothing to compare with: {error.message}"
            return Decision(promoted=False, reason=reason)
        known = read_version(engine, number)
        seen = [known["trained_until"], known["tuned_until"], chosen.seen_until]
        seen_until = None if known["trained_until"] is None else max(moment for moment in seen if moment)
        return decide_if_better(split, model, production, number, seen_until)


def _still(decision: Decision, serving: int | None) -> Decision:
    """The decision, unless it was about something else than what serves by now."""
    if not (decision.promoted and decision.depends) or decision.serving == serving:
        return decision
    reason = f"version {serving} was put into production meanwhile"
    return Decision(promoted=False, reason=reason, comparison=decision.comparison)


def _known(split: Split, model: ChargerTypeModel, options: TrainingOptions) -> dict[str, Any]:
    """What is stored of a version beside its bytes: what it was made of, and how to tell that it is read rightly."""
    rows = rows_fingerprint(split.frame.iloc[: split.trained.stop])
    starts = split.train["charging_start_time"]
    fitted = model.fitted()
    return {
        "hyper_parameters": fitted.hyper_parameters,
        "contract": fitted.contract,
        "features": describe_features(fitted),
        "columns": fitted.columns,
        "classes": fitted.classes,
        "trained_from": starts.iloc[0].to_pydatetime(),
        "trained_until": starts.iloc[-1].to_pydatetime(),
        "trained_samples": split.n_train,
        "test_samples": split.n_test,
        "rows_sha256": rows.sha256,
        "rows_by_month": rows.months,
        "trees_sha256": trees_sha256(model.booster_),
        "seed": model.random_state,
        "libraries": libraries(),
        "code_version": code_version(),
        "golden": golden_rows(fitted, split),
        "note": options.note,
    }


def _report(trained: _Trained, decision: Decision, options: TrainingOptions) -> dict[str, Any]:
    scores, split = trained.scores, trained.split
    return {
        "status": "success",
        "message": _message(trained, decision),
        "test_f1_score": scores["test_f1_score"],
        "trained_samples": split.n_train,
        "test_samples": split.n_test,
        "model_version": trained.model_version,
        "training_run": trained.run_id,
        "promotion": decision.as_dict(),
        **scores,
        "label_meaning": LABEL_MEANING,
        "dropped": trained.history.dropped.as_dict(),
        "synthetic_sessions": trained.history.synthetic_sessions,
        "hyper_parameters": trained.model.get_params(),
        "hyper_parameters_from": trained.chosen.source,
        "test_sessions_seen_by_search": _seen_by_search(trained),
        "new_driver_weight": trained.model.cold_weight_,
        "note": options.note,
    }


def _seen_by_search(trained: _Trained) -> int:
    """How many of the test sessions the search for the hyper-parameters has seen."""
    seen_until = trained.chosen.seen_until
    return 0 if seen_until is None else int((trained.split.test["charging_start_time"] <= seen_until).sum())


def _message(trained: _Trained, decision: Decision) -> str:
    scores, split, history = trained.scores, trained.split, trained.history
    best = scores["best_baseline"]
    guess = _GUESSES[best]
    lines = [
        (
            f"Version {trained.model_version} was trained on {split.n_train:,} sessions and"
            f" {'serves now' if decision.promoted else f'stays a candidate: {decision.reason}'}."
        ),
        (
            f"On the last {split.n_test:,} its weighted F1 is {scores['test_f1_score']:.3f} and its log loss"
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
        if trained.chosen.seen_until is not None:
            lines.append("All windows but the last lie inside what the search for hyper-parameters has seen.")
    if seen := _seen_by_search(trained):
        lines.append(
            f"The search for hyper-parameters has seen {seen:,} of the {split.n_test:,} test sessions:"
            " these scores flatter the model."
        )
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
