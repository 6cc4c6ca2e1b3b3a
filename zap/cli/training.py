"""train and tune: a new model, and the hyper-parameters of later ones."""

import math
import os
import signal
from typing import Any, NoReturn

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings
from zap.errors import TrainingFailed
from zap.progress import shown_progress


@click.command(cls=Command)
@click.option("--tune", "tuned", is_flag=True, help="Search the hyper-parameters first, as `zap tune` does.")
@click.option("--windows", is_flag=True, help="Evaluate over five rolling windows of the history too.")
@click.option("--no-upgrade", is_flag=True, hidden=True, help="The server that asks has upgraded already.")
@DATABASE
@JSON
def train(tuned: bool, windows: bool, no_upgrade: bool, database_url: str | None, as_json: bool) -> None:
    """Train on the whole history and put the new model into production."""
    _spin_briefly()
    settings = read_settings(database_url=database_url)
    # A training that is told to stop cleans up behind itself.
    signal.signal(signal.SIGTERM, _stop_training)
    with engine_at_head(settings, upgraded=not no_upgrade) as engine:
        from zap.training_run import run_training

        with shown_progress() as progress:
            report = run_training(engine, settings, progress, tune=tuned, windows=windows)
    if as_json:
        print_json(report)
    else:
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
    with engine_at_head(settings, upgraded=True) as engine:
        if forget:
            from zap.db.tunings import add_tuning

            found: dict[str, Any] = {"tuning": add_tuning(engine, None, None), "hyper_parameters": {}}
        else:
            from zap.ml.tuning import Budget
            from zap.training_run import run_tuning

            bounds = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
            with shown_progress() as progress:
                found = run_tuning(engine, settings, progress, Budget(**bounds))  # type: ignore[arg-type]
    if as_json:
        print_json(found)
    else:
        from zap.shown import print_tuning

        print_tuning(found)


def _spin_briefly() -> None:
    """Let LightGBM's threads wait for each other awake, but not for long; read by OpenMP when LightGBM is loaded.

    Threads that sleep at once take more than three times as long on idle cores, and those that wait as long as GNU's
    OpenMP lets them many times as long beside busy processes.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _stop_training(_signal: int, _frame: object) -> NoReturn:
    raise TrainingFailed("it was told to stop; the model that served still does")
