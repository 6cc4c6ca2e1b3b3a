"""A search without a training: read, clean, split, search and save. Later trainings use the result."""

from typing import Any

from sqlalchemy import Engine

from zap.db.runs.run_end import remove_leftovers
from zap.db.runs.training_lease import Lease, run_lease
from zap.db.runs.training_runs import claim_run, finish_run
from zap.db.versions.tunings import add_tuning
from zap.flows.training import PLAIN, Phases, read_split, search_hyper_parameters
from zap.formats.training_options import TrainingOptions
from zap.ml.tuning import Budget
from zap.progress import Progress
from zap.settings import Settings


def run_tuning(  # noqa: PLR0913
    engine: Engine,
    settings: Settings,
    progress: Progress,
    budget: Budget,
    options: TrainingOptions = PLAIN,
    *,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Search hyper-parameters on the history, and store the best ones for later trainings.

    Args:
        engine: on a database at head.
        settings: the threads, and the bounds of charger types.
        progress: called with the progress of each phase.
        budget: the limits of the search.
        options: `hyper_parameters` are used in every trial, and `tune_seed` is the seed; other options are ignored.
        lease: the lease of a claimed run. Default: claim a new run.

    Returns:
        The number of the tuning, the hyper-parameters and the evidence.

    Raises:
        TrainingRunning: another training is running on this database.
        TrainingCancelled: the run was cancelled.
        UnusableHistory: the history has too few sessions or types.
    """
    if lease is None:
        with run_lease(engine, claim_run(engine, "tune", tuning_asked(budget, options))) as own:
            return run_tuning(engine, settings, progress, budget, options, lease=own)
    phase = Phases(progress, lease.tell)
    remove_leftovers(engine)
    read = read_split(engine, settings, phase, PLAIN)
    best, evidence = search_hyper_parameters(engine, settings, read, phase, budget, options)
    with lease.last_transaction() as connection:
        report = {"tuning": add_tuning(connection, best, evidence), "hyper_parameters": best, **evidence}
        finish_run(connection, lease.run_id, report)
    return report


def tuning_asked(budget: Budget, options: TrainingOptions) -> dict[str, Any]:
    """Return the options of a search, as its run stores them."""
    asked = options.as_dict()
    return budget._asdict() | {name: asked[name] for name in ("hyper_parameters", "tune_seed") if name in asked}
