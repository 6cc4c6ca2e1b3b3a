"""The command line. Heavy packages are imported by the commands that need them, so that `zap --help` is quick."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zap import __version__
from zap.errors import (
    DamagedModel,
    DatabaseUnavailable,
    NotReproduced,
    TrainingFailed,
    TrainingRunning,
    UnusableHistory,
    ZapError,
)
from zap.progress import Progress, shown_progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.settings import Settings

_DATABASE = click.option("--database-url", help="Default: ZAP_DATABASE_URL.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Standard output is one JSON document, nothing else.")


class _Command(click.Command):
    """A command whose errors are told in a sentence (or as problem details, with --json) and by the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZapError as error:
            _fail(error, as_json=ctx.params.get("as_json", False))


class _Group(click.Group):
    command_class = _Command
    group_class = type


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="zap")
def main() -> None:
    """Learn from the charging history which charger type fits a driver's next session."""


@main.command()
@click.option("--host", help="Default: ZAP_HOST, else 127.0.0.1.")
@click.option("--port", type=int, help="Default: ZAP_PORT, else 8000.")
@click.option("--workers", type=int, help="Server processes. Default: ZAP_WORKERS, else 1.")
@click.option("--bootstrap", is_flag=True, help="Load the sample history if there is none, train if no model serves.")
@_DATABASE
def serve(host: str | None, port: int | None, workers: int | None, bootstrap: bool, database_url: str | None) -> None:
    """Upgrade the database and serve predictions over HTTP."""
    settings = _settings(host=host, port=port, workers=workers, database_url=database_url)
    with _engine(settings, upgraded=True) as engine:
        if bootstrap:
            _bootstrap(engine, settings)
    if settings.host not in {"127.0.0.1", "localhost", "::1"} and settings.api_key is None:
        click.echo(
            f"warning: {settings.host} can be reached from other machines and ZAP_API_KEY is not set:"
            " whoever can reach it can train and predict",
            err=True,
        )
    import uvicorn

    from zap.logs import logging_config

    # The workers are processes of their own and read their settings from the environment.
    os.environ.update(settings.environment())
    click.echo(f"zap {__version__} on http://{settings.host}:{settings.port}, docs at /docs", err=True)
    uvicorn.run(
        "zap.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=logging_config(settings),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


@main.command()
@click.option("--tune", "tuned", is_flag=True, help="Search the hyper-parameters first, as `zap tune` does.")
@click.option("--windows", is_flag=True, help="Evaluate over five rolling windows of the history too.")
@click.option("--no-upgrade", is_flag=True, hidden=True, help="The server that asks has upgraded already.")
@_DATABASE
@_JSON
def train(tuned: bool, windows: bool, no_upgrade: bool, database_url: str | None, as_json: bool) -> None:
    """Train on the whole history and put the new model into production."""
    _spin_briefly()
    settings = _settings(database_url=database_url)
    # A training that is told to stop cleans up behind itself.
    signal.signal(signal.SIGTERM, _stop_training)
    with _engine(settings, upgraded=not no_upgrade) as engine:
        from zap.training_run import run_training

        with shown_progress() as progress:
            report = run_training(engine, settings, progress, tune=tuned, windows=windows)
    if as_json:
        _print_json(report)
    else:
        from zap.shown import print_report

        print_report(report)


@main.command()
@click.option("--trials", type=click.IntRange(1), help="How many candidates to try, the defaults among them.")
@click.option("--minutes", type=click.FloatRange(0), help="Begin no candidate after so many minutes.")
@click.option("--forget", is_flag=True, help="Search nothing: let later trainings use the defaults again.")
@_DATABASE
@_JSON
def tune(trials: int | None, minutes: float | None, forget: bool, database_url: str | None, as_json: bool) -> None:
    """Search hyper-parameters on the first 90 % of this history; later trainings use what is found."""
    _spin_briefly()
    if minutes is not None and not math.isfinite(minutes):
        raise click.BadParameter(f"{minutes} is no number of minutes", param_hint="--minutes")
    settings = _settings(database_url=database_url)
    signal.signal(signal.SIGTERM, _stop_training)
    with _engine(settings, upgraded=True) as engine:
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
        _print_json(found)
    else:
        from zap.shown import print_tuning

        print_tuning(found)


@main.command()
@click.argument("file", type=click.File("rb"), default="-")
@_DATABASE
def predict(file: Any, database_url: str | None) -> None:
    """Predict for the JSON object in FILE (default: standard input), logged like a request over HTTP."""
    settings = _settings(database_url=database_url)
    body = file.read()
    with _engine(settings, upgraded=False) as engine:
        import msgspec

        from zap.controllers.schemas import PredictReply
        from zap.db.driver_histories import DriverHistories
        from zap.db.drivers import driver_facts
        from zap.db.prediction_log import PredictionLog
        from zap.db.production import Production
        from zap.db.tables import utc_now
        from zap.ml.history import to_seconds
        from zap.ml.request import USER_ID, complete_request, parse_request

        received_at = utc_now()
        production = Production(engine, settings.model_file)
        production.refresh()
        predictor = production.predictor
        request = parse_request(body, settings.wall_time)
        facts = driver_facts(engine, request.values)
        values = complete_request(request, facts, predictor.contract, now=settings.wall_time(received_at))
        history = DriverHistories(engine).read(
            request.values.get(USER_ID), to_seconds(values["charging_start_time"]), predictor.types
        )
        answer = predictor.answer(values, history)
        logged = PredictionLog(engine).write(request.text, received_at, answer)
    _print_json(msgspec.to_builtins(PredictReply.of(answer, logged)))


@main.command("explain-prediction")
@click.argument("prediction_id", type=click.IntRange(0, 2**63 - 1))
@_DATABASE
@_JSON
def explain_prediction(prediction_id: int, database_url: str | None, as_json: bool) -> None:
    """Show the row that was scored for a prediction, and score it again with the version that did."""
    with _engine(_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.model_registry import load_version, version
        from zap.db.prediction_log import read_features
        from zap.ml.inference import explain

        scored = read_features(engine, prediction_id)
        model = load_version(engine, version(engine, scored.model_version))
        explained = {
            "prediction_id": prediction_id,
            "model_version": scored.model_version,
            **explain(model, scored.features, scored.probabilities),
        }
    if as_json:
        _print_json(explained)
    else:
        from zap.shown import print_explained

        print_explained(explained)
    if not explained["equal"]:
        _fail(NotReproduced("another version of a library or another kind of machine may be why"), as_json=False)


@main.command("import-history")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--skip-bad-rows", is_flag=True, help="Import the other rows of a file that has bad ones.")
@_DATABASE
@_JSON
def import_history_command(file: Path, skip_bad_rows: bool, database_url: str | None, as_json: bool) -> None:
    """Add the charging sessions in FILE (.csv, .csv.gz) to the history; importing twice adds nothing."""
    settings = _settings(database_url=database_url)
    with _engine(settings, upgraded=True) as engine:
        from zap.history_import import import_history

        with shown_progress() as progress:
            report = import_history(
                engine,
                file,
                wall_time=settings.wall_time,
                skip_bad_rows=skip_bad_rows,
                progress=progress,
            )
    if as_json:
        _print_json(report.as_dict())
    else:
        for line in report.lines():
            click.echo(line)


@main.command("sample-history")
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--drivers", type=int, default=None, help="How many drivers.")
@click.option("--months", type=int, default=None, help="How many months of sessions.")
@_DATABASE
@_JSON
def sample_history_command(
    seed: int,
    drivers: int | None,
    months: int | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Add a synthetic history: made up, deterministic, with the best reachable scores known."""
    settings = _settings(database_url=database_url)
    size = {name: value for name, value in (("drivers", drivers), ("months", months)) if value is not None}
    with _engine(settings, upgraded=True) as engine, shown_progress() as progress:
        report = _add_sample_history(engine, progress, seed=seed, **size)
    if as_json:
        _print_json(report)
    else:
        for name, value in report.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")


@main.group(cls=_Group)
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@_DATABASE
def upgrade_command(database_url: str | None) -> None:
    """Bring the database to the newest schema; an existing ZapApp database is adopted in place."""
    with _engine(_settings(database_url=database_url), upgraded=True):
        click.echo("the database is at head", err=True)


def _spin_briefly() -> None:
    """Let LightGBM's threads wait for each other awake, but not for long; read by OpenMP when LightGBM is loaded.

    Threads that sleep at once take more than three times as long on idle cores, and those that wait as long as GNU's
    OpenMP lets them many times as long beside busy processes.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _stop_training(_signal: int, _frame: object) -> NoReturn:
    raise TrainingFailed("it was told to stop; the model that served still does")


def _settings(**overrides: object) -> "Settings":
    from zap.logs import configure_logs
    from zap.settings import read_settings

    settings = read_settings(**overrides)
    configure_logs(settings)
    return settings


@contextmanager
def _engine(settings: "Settings", *, upgraded: bool) -> Iterator["Engine"]:
    """An engine on a database at head: upgraded first, or refused when it is not."""
    from sqlalchemy.exc import SQLAlchemyError

    from zap.db.engine import create_engine
    from zap.db.schema import check_at_head, upgrade

    if upgraded:
        upgrade(settings.database_url, report=lambda line: click.echo(line, err=True))
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    try:
        if not upgraded:
            check_at_head(engine)
        yield engine
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DatabaseUnavailable(f"{settings.shown_url}: {reason}") from error
    finally:
        engine.dispose()


def _bootstrap(engine: "Engine", settings: "Settings") -> None:
    from zap.db.history_store import has_history
    from zap.db.model_registry import load_version, production_version

    if not has_history(engine):
        with shown_progress() as progress:
            report = _add_sample_history(engine, progress)
        click.echo(report["message"], err=True)
    version = production_version(engine)
    try:
        serves = version is not None and bool(load_version(engine, version))
    except DamagedModel as error:
        click.echo(f"warning: the version in production cannot serve: {error.message}", err=True)
        serves = False
    if not serves:
        exit_code = _train_in_child(settings)
        if exit_code in {TrainingRunning.exit_code, UnusableHistory.exit_code}:
            click.echo("warning: there is no model yet; serving without one until there is", err=True)
        elif exit_code:
            sys.exit(exit_code)


def _train_in_child(settings: "Settings") -> int:
    """Train in a process of its own, whose memory is given back before the server starts; its exit code."""
    child = subprocess.Popen(
        [sys.executable, "-m", "zap", "train", "--no-upgrade"], env={**os.environ, **settings.environment()}
    )
    # Who is told to stop passes it on, and waits until the training has cleaned up behind itself.
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The terminal has told the child too.
        return child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _add_sample_history(engine: "Engine", progress: Progress, **options: int) -> dict[str, Any]:
    from zap.db.history_store import upsert_history
    from zap.ml.sample import sample_history

    sample = sample_history(**options)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions, progress=progress)
    reachable = sample.reachable()
    return {
        "message": "this history is synthetic: it shows how zap works and says nothing about real drivers",
        "users": len(sample.users),
        "vehicles": len(sample.vehicles),
        "sessions": len(sample.sessions),
        "reachable_accuracy": round(reachable.accuracy, 4),
        "reachable_log_loss": round(reachable.log_loss, 4),
    }


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def _fail(error: ZapError, *, as_json: bool) -> NoReturn:
    click.echo(f"Error: {error.title}: {error.message}", err=True)
    for one in error.details.get("errors", ()):
        click.echo(f"  {one['pointer']} {one['detail']}", err=True)
    if as_json:
        _print_json(error.problem())
    sys.exit(error.exit_code)
