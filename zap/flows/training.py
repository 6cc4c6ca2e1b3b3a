"""A training: read, clean, split, fit, evaluate, decide, save and log, in this order."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.history.history_store import read_history
from zap.db.history.session_changes import prune_changes
from zap.db.history.session_timestamps import read_timestamps
from zap.db.log.training_log import log_train_predictions
from zap.db.monitoring.monitor_states import store_references
from zap.db.monitoring.trials import begin_trial
from zap.db.runs.run_end import remove_leftovers
from zap.db.runs.run_events import prune_events
from zap.db.runs.training_lease import Lease, run_lease
from zap.db.runs.training_runs import claim_run, finish_run, read_run
from zap.db.versions.model_file import export_in_time
from zap.db.versions.model_registry import (
    Version,
    add_candidate,
    load_version,
    production_version,
    prune_candidates,
    read_version,
)
from zap.db.versions.promotions import promote, serving_version
from zap.db.versions.tunings import DEFAULTS, HyperParameters, add_tuning, tuned_hyper_parameters
from zap.errors import DamagedModel, TrainingCancelled, TrialRefused, UnusableHistory
from zap.flows.measured import measured
from zap.flows.monitor_references import references_of
from zap.flows.trained import Trained
from zap.flows.training_result import training_report
from zap.formats.promotion_reason import Reason
from zap.formats.training_options import TrainingOptions
from zap.formats.trial_options import TrialOptions
from zap.ml import training
from zap.ml.artefact import describe_features
from zap.ml.boosting import BoostingProgress
from zap.ml.charger_types import TypeBounds, in_words_if_many
from zap.ml.code_version import code_version, libraries
from zap.ml.comparison import compare_versions
from zap.ml.decision import Decision, Serving
from zap.ml.evaluation import with_windows
from zap.ml.fingerprint import rows_fingerprint
from zap.ml.gate import decide
from zap.ml.golden import golden_rows
from zap.ml.history import History, clean_history
from zap.ml.memory import release_memory
from zap.ml.model import ChargerTypeModel
from zap.ml.reporting import Reporting, measure_reporting, newest_sessions
from zap.ml.training import Split
from zap.ml.tuning import Budget, search
from zap.monitoring.trials import CAVEAT
from zap.progress import Progress, no_progress
from zap.sentences import say
from zap.settings import Settings

log = structlog.get_logger(__name__)

PLAIN = TrainingOptions()


class Phases:
    """Measure the seconds of each phase, and report the progress of phases.

    Args:
        progress: the functions that are called with progress.
    """

    def __init__(self, *progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[BoostingProgress]:
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
    """Train on the history, store the new version, and put it into production if the options say so.

    Args:
        engine: on a database at head.
        settings: the model file, the threads, the bounds of charger types, and how many candidates are kept.
        progress: called with the progress of each phase.
        options: the options of the training.
        lease: the lease of a claimed run. Default: claim a new run.

    Returns:
        The report, which is the reply of `POST /train-model`.

    Raises:
        TrainingRunning: another training is running on this database.
        TrainingCancelled: the run was cancelled.
        UnusableHistory: the history has too few sessions or types. The version in production is unchanged.
    """
    if lease is None:
        with run_lease(engine, claim_run(engine, "train", options.as_dict())) as own:
            return run_training(engine, settings, progress, options, lease=own)
    remove_leftovers(engine)
    prune_changes(engine)
    try:
        report, promoted = _train(engine, settings, lease, Phases(progress, lease.tell), options)
        if promoted is not None:
            # The version already serves from the database; the exported file is only for data scientists.
            export_in_time(engine, promoted, settings.model_file)
    except TrainingCancelled:
        # The signal may come after the end of the training, which it cannot undo.
        run = read_run(engine, lease.run_id)
        if run["status"] != "finished":
            raise
        log.warning("told to stop after the end of the training; a server will export the model file")
        report = run["report"]
    return report


def _train(
    engine: Engine, settings: Settings, lease: Lease, phase: Phases, options: TrainingOptions
) -> tuple[dict[str, Any], Version | None]:
    """Run a training from the tables to the finished run. Return its report, and the version if it serves now."""
    read = read_split(engine, settings, phase, options)
    history, split, reporting = read
    if options.tune:
        best, evidence = search_hyper_parameters(engine, settings, read, phase, Budget(), options)
        with write_transaction(engine) as connection:
            lease.check(connection)
            add_tuning(connection, best, evidence)
    chosen = _hyper_parameters(engine, options)
    with phase("fit") as rounds:
        params = {**reporting.leaving_out(chosen.values), "estimator": options.estimator}
        model, probabilities = training.fit_and_predict(
            split, params, n_jobs=settings.training_threads, progress=rounds
        )
        release_memory()
    with phase("evaluate"):
        scores = training.score(split, model, chosen.seen_until)
        found = measured(model, split)
    if options.windows:
        pinned = reporting.leaving_out(options.hyper_parameters)
        anew = partial(_search_anew, settings=settings, options=options, pinned=pinned) if options.nested else None
        with phase("windows") as tested:
            windows = training.score_windows(split, model, chosen.seen_until, search=anew, progress=tested)
            scores = {**with_windows(scores, windows), "at_plug_in": training.score_at_plug_in(split, model)}
    serving = _serving(engine, split, model, phase, chosen, options)
    decision = decide(options.promote, scores["verdict"], serving)
    with phase("save"):
        known = _known(split, model, chosen, {**scores, **found}, options)
        artefact = model.to_bytes()
        references = references_of(split, model, scores)
        with write_transaction(engine) as connection:
            lease.check(connection)
            version = add_candidate(connection, lease.run_id, artefact, known)
            store_references(connection, version.model_version, references)
    with phase("log") as logged:
        classes = [str(name) for name in model.classes_]
        rows = log_train_predictions(
            engine, lease.check, version.model_version, classes, split.train_types, probabilities
        )
        for done in rows:
            logged(done, split.n_train)
    with lease.last_transaction() as connection:
        decision = decision.confirmed(serving_version(connection))
        if decision.promoted:
            # The reason is not checked like a body, because zap's own text may be longer than a text of a client.
            reason = Reason.model_construct(
                why=say("training run {run_id}: {reason}", run_id=lease.run_id, reason=decision.reason)
            )
            promote(connection, version.model_version, reason)
        elif decision.tries:
            decision = _begin_trial(connection, version.model_version, decision, lease.run_id)
        asked_before = settings.asked_before_minutes
        trained = Trained(
            history, split, model, chosen, scores, reporting, asked_before, version.model_version, lease.run_id
        )
        report = training_report(trained, decision, options, phase.seconds, settings.shown_model_file)
        finish_run(connection, lease.run_id, report)
        prune_events(connection)
        if pruned := prune_candidates(connection, settings.keep_candidates):
            note(connection, "version.prune", f"run {lease.run_id}", after={"versions": pruned})
    return report, version if decision.promoted else None


class Read(NamedTuple):
    """The cleaned history of a training, its split with the features of each session, and the delay of its reports."""

    history: History
    split: Split
    reporting: Reporting


def read_split(engine: Engine, settings: Settings, phase: Phases, options: TrainingOptions) -> Read:
    """Return the cleaned history, its split, and how late its sessions were stored."""
    with phase("read"):
        raw = read_history(engine)
    with phase("clean"):
        history = clean_history(raw)
        del raw
        release_memory()
    if history.synthetic_sessions:
        log.warning("the history is synthetic", sessions=len(history.frame), synthetic=history.synthetic_sessions)
    newest = newest_sessions(history.frame)
    reporting = measure_reporting(newest, read_timestamps(engine, newest["session_id"].tolist()))
    asked_before = settings.asked_before_minutes
    if said := reporting.in_words(asked_before):
        log.warning("the present is not known in time", why=said)
    with phase("features") as walked:
        split = training.split_by_time(
            history,
            walked,
            since=options.history_from,
            until=options.history_to,
            test_share=options.test_share,
            bounds=TypeBounds(settings.fewest_type_sessions, settings.least_type_share, settings.most_types),
            asked_before=asked_before,
            delay=reporting.delay,
        )
        release_memory()
    if said := split.left_out.in_words():
        log.warning("some charger types are not learned", why=said)
    if said := in_words_if_many(len(split.types), split.n_train):
        log.warning(said)
    return Read(history, split, reporting)


def search_hyper_parameters(  # noqa: PLR0913, PLR0917
    engine: Engine, settings: Settings, read: Read, phase: Phases, budget: Budget, options: TrainingOptions
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search on the training part. Return the best hyper-parameters, and the evidence.

    The hyper-parameters of the tuning in force are a trial of the search, so that a new search never loses better ones.
    The sessions that this tuning has seen count as seen by the search. With `nested` they are not a trial, because this
    tuning may have seen the test sessions of the last window. The evidence includes `seen_until`, the start of the
    newest session that was seen.
    """
    incumbent = HyperParameters({}, DEFAULTS) if options.nested else tuned_hyper_parameters(engine)
    with phase("tune") as fitted:
        found = search(
            read.split,
            budget,
            n_jobs=settings.training_threads,
            pinned=read.reporting.leaving_out(options.hyper_parameters),
            incumbent=incumbent.values,
            seed=options.tune_seed,
            progress=fitted,
        )
    seen = [read.split.train["charging_start_time"].iloc[-1].to_pydatetime(), incumbent.seen_until]
    seen_until = max(moment for moment in seen if moment)
    best = dict(found.best.hyper_parameters)
    if read.reporting.left_out():
        # A tuning does not keep the groups that this history's reports exclude. Each training measures its own reports.
        best.pop("left_out", None)
        best |= {name: value for name, value in options.hyper_parameters.items() if name == "left_out"}
    return best, {**found.evidence(), "seen_until": seen_until.isoformat()}


def _hyper_parameters(engine: Engine, options: TrainingOptions) -> HyperParameters:
    """Return the hyper-parameters of this training: from the request, or the newest tuning, or else the defaults."""
    tuned = tuned_hyper_parameters(engine)
    if not options.hyper_parameters:
        return tuned
    source = say(
        "{source}, and the request: {hyper_parameters}",
        source=tuned.source,
        hyper_parameters=", ".join(options.hyper_parameters),
    )
    return tuned._replace(values={**tuned.values, **options.hyper_parameters}, source=source)


def _search_anew(
    window: Split, *, settings: Settings, options: TrainingOptions, pinned: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the hyper-parameters of a search in a rolling window, without knowledge from later sessions."""
    threads = settings.training_threads
    try:
        return search(window, Budget(), n_jobs=threads, pinned=pinned, seed=options.tune_seed).best.hyper_parameters
    except UnusableHistory:
        # The training part of this window is too short for a search, so it gets the defaults, which saw no sessions.
        return pinned


def _serving(  # noqa: PLR0913, PLR0917
    engine: Engine,
    split: Split,
    model: ChargerTypeModel,
    phase: Phases,
    chosen: HyperParameters,
    options: TrainingOptions,
) -> Serving | None:
    """Return what the decision needs to know about the version in production; None if no version serves.

    With `if_better`, the version is compared with the new model. With `always` and `never`, nothing is needed.
    """
    version = production_version(engine)
    if version is None or options.promote in {"always", "never"}:
        return None
    number = version.model_version
    with phase("compare"):
        try:
            production = ChargerTypeModel.from_fitted(load_version(engine, version))
        except DamagedModel as error:
            return Serving(number, damage=error.message)
        known = read_version(engine, number)
        if options.promote == "trial" or known["trained_until"] is None:
            return Serving(number)
        seen = (known["trained_until"], known["tuned_until"], chosen.seen_until)
        seen_until = max(moment for moment in seen if moment)
        return Serving(number, comparison=compare_versions(split, model, production, seen_until))


def _begin_trial(connection: Connection, number: int, decision: Decision, run_id: int) -> Decision:
    """Begin the trial of a new version, which is promoted if it is better. Return the decision with its trial.

    If no trial can begin, the new version stays a candidate, and the decision says why.
    """
    options = TrialOptions(on_better="promote", why=say("training run {run_id}", run_id=run_id))
    try:
        trial = begin_trial(connection, number, options)
    except TrialRefused as error:
        return replace(decision, reason=say("no trial could begin: {reason}", reason=error.message))
    reason = say(
        "trial {trial} compares it with the version in production for at most {weeks} weeks, and promotes it if it is"
        " better. {caveat}",
        trial=trial,
        weeks=options.weeks,
        caveat=CAVEAT.rstrip("."),
    )
    return replace(decision, reason=reason, trial=trial)


def _known(
    split: Split, model: ChargerTypeModel, chosen: HyperParameters, scores: dict[str, Any], options: TrainingOptions
) -> dict[str, Any]:
    """Return the stored facts about a version beside its artefact: its origin, and the data for its checks."""
    rows = rows_fingerprint(split.frame.iloc[: split.trained_end])
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
        "trees_sha256": model.scorer_.digest(),
        "seed": model.random_state,
        "libraries": libraries(),
        "code_version": code_version(),
        "golden": golden_rows(fitted, split),
        "note": options.note,
        "hyper_parameters_from": chosen.source,
        "tuned_until": chosen.seen_until,
        "evaluation": scores,
    }
