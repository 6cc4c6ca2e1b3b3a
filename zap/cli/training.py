"""train and tune: a new model, and the hyper-parameters of later ones."""

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings
from zap.errors import TrainingFailed, ZapError
from zap.interpreter import taking_turns
from zap.progress import shown_progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.db.training_lease import Lease
    from zap.ml.training_options import TrainingOptions
    from zap.settings import Settings

# How long a training that was cancelled has to come to its own end.
_GRACE_SECONDS = 0.5
# What took long to compute is not lost because an import writes for long.
_PATIENCE_SECONDS = 900
# Predictions go first.
_NICENESS = 10


@click.command(cls=Command)
@click.option("--tune", is_flag=True, help="Search the hyper-parameters first, as `zap tune` does.")
@click.option("--windows", is_flag=True, help="Evaluate over rolling windows of the history too.")
@click.option("--from", "history_from", metavar="TIME", help="Learn from no session that started before.")
@click.option("--to", "history_to", metavar="TIME", help="Know nothing of sessions that started then or later.")
@click.option("--test-share", type=float, help="The share of the sessions to test on, the last. Default: 0.1.")
@click.option("--set", "settings_", metavar="NAME=VALUE", multiple=True, help="Set a hyper-parameter; may be repeated.")
@click.option("--promote", type=click.Choice(["always", "if_better", "never"]), help="Default: always.")
@click.option("--note", help="Kept with the version.")
@click.option("--no-upgrade", is_flag=True, hidden=True, help="Who asks has upgraded already.")
@click.option("--run-id", type=int, hidden=True, help="The run that a server has claimed, with its options.")
@DATABASE
@JSON
def train(
    no_upgrade: bool,
    run_id: int | None,
    database_url: str | None,
    as_json: bool,
    settings_: tuple[str, ...],
    **asked: Any,
) -> None:
    """Train on the history and put the new model into production, unless it is asked otherwise."""
    _spin_briefly()
    settings = read_settings(database_url=database_url)
    # A training that is told to stop cleans up behind itself.
    signal.signal(signal.SIGTERM, _stop_training)
    with (
        # What its heartbeat writes holds a lock that requests wait for.
        taking_turns(),
        engine_at_head(settings, upgraded=not no_upgrade and run_id is None, patience=_PATIENCE_SECONDS) as engine,
        _claimed(engine, settings, run_id, _fields(asked, settings_)) as (lease, options),
    ):
        from zap.training_run import run_training

        with shown_progress() as progress:
            report = run_training(engine, settings, progress, options, lease=lease)
    if as_json:
        print_json(report)
    elif run_id is None:
        from zap.shown import print_report

        print_report(report)


@click.command(cls=Command)
@click.option("--trials", type=click.IntRange(1), help="How many candidates to try, the defaults among them.")
@click.option("--minutes", type=click.FloatRange(0), help="Begin no candidate after so many minutes.")
@click.option("--forget", is_flag=True, help="Search nothing: let later trainings use the defaults again.")
@DATABASE
@JSON
def tune(trials: int | None, minutes: float | None, forget: bool, database_url: str | None, as_json: bool) -> None:
    """Search hyper-parameters on the first 90 % of this history; later trainings use what is found."""
    _spin_briefly()
    if minutes is not None and not math.isfinite(minutes):
        raise click.BadParameter(f"{minutes} is no number of minutes", param_hint="--minutes")
    settings = read_settings(database_url=database_url)
    signal.signal(signal.SIGTERM, _stop_training)
    with taking_turns(), engine_at_head(settings, upgraded=True, patience=_PATIENCE_SECONDS) as engine:
        if forget:
            from zap.db.engine import write_transaction
            from zap.db.tunings import add_tuning

            with write_transaction(engine) as connection:
                found: dict[str, Any] = {"tuning": add_tuning(connection, None, None), "hyper_parameters": {}}
        else:
            from zap.ml.tuning import Budget
            from zap.training_run import run_tuning

            bounds = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
            budget = Budget(**bounds)  # type: ignore[arg-type]
            with _own_run(engine, "tune", budget._asdict()) as lease, shown_progress() as progress:
                found = run_tuning(engine, settings, progress, budget, lease=lease)
    if as_json:
        print_json(found)
    else:
        from zap.shown import print_tuning

        print_tuning(found)


@contextmanager
def _claimed(
    engine: "Engine", settings: "Settings", run_id: int | None, fields: dict[str, Any]
) -> Iterator[tuple["Lease", "TrainingOptions"]]:
    """The lease of this training, and what it is asked for: by the command, or by whoever claimed the run."""
    from zap.db.training_lease import run_lease
    from zap.db.training_runs import read_run

    if run_id is not None:
        # Heard of before anything heavy is imported.
        with run_lease(engine, run_id, _end_soon) as lease:
            if hasattr(os, "nice"):
                os.nice(_NICENESS)
            from zap.ml.training_options import read_options

            yield lease, read_options(read_run(engine, run_id)["options"] or {}, settings.wall_time)
        return
    from zap.ml.training_options import read_options

    options = read_options(fields, settings.wall_time)
    with _own_run(engine, "train", options.as_dict()) as lease:
        yield lease, options


@contextmanager
def _own_run(engine: "Engine", kind: str, options: dict[str, Any]) -> Iterator["Lease"]:
    """The lease of a run that this command claims."""
    from zap.db.training_lease import run_lease
    from zap.db.training_runs import claim_run

    with ExitStack() as held:
        # In between SIGTERM would leave a run that is said to be running, and nobody who says that it failed.
        with _told_later():
            lease = held.enter_context(run_lease(engine, claim_run(engine, kind, options), _end_soon))
        yield lease


@contextmanager
def _told_later() -> Iterator[None]:
    """Until the end of this SIGTERM waits."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fields(asked: dict[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """What the command asks for, as the body of /train-model has it."""
    fields = {name: value for name, value in asked.items() if value is not None and value is not False}
    if settings:
        parameters = [_setting(text) for text in settings]
        fields["hyper_parameters"] = dict(parameters)
        if len(fields["hyper_parameters"]) < len(parameters):
            raise click.BadParameter("a hyper-parameter is there more than once", param_hint="--set")
    return fields


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        # What is no number is told with the range of its parameter.
        return name, value


def _end_soon(error: ZapError) -> None:
    """End this process although it may be deep in a computation: its run was ended by somebody else."""

    def end() -> None:
        click.echo(f"Error: {error.title}: {error.message}", err=True)
        sys.stderr.flush()
        os._exit(error.exit_code)

    timer = threading.Timer(_GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()


def _spin_briefly() -> None:
    """Let LightGBM's threads wait for each other awake, but not for long; read by OpenMP when LightGBM is loaded.

    Threads that sleep at once take more than three times as long on idle cores, and those that wait as long as GNU's
    OpenMP lets them many times as long beside busy processes.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _stop_training(_signal: int, _frame: object) -> NoReturn:
    raise TrainingFailed("it was told to stop; the model that served still does")
