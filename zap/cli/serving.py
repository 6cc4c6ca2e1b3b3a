"""serve, predict and explain-prediction: the model in production at work."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zap import __version__
from zap.cli.command import DATABASE, JSON, Command, engine_at_head, fail, print_json, read_settings
from zap.cli.history import add_sample_history
from zap.errors import DamagedModel, NotReproduced, TrainingRunning, UnusableHistory
from zap.progress import shown_progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.settings import Settings


@click.command(cls=Command)
@click.option("--host", help="Default: ZAP_HOST, else 127.0.0.1.")
@click.option("--port", type=int, help="Default: ZAP_PORT, else 8000.")
@click.option("--workers", type=int, help="Server processes. Default: ZAP_WORKERS, else 1.")
@click.option("--bootstrap", is_flag=True, help="Load the sample history if there is none, train if no model serves.")
@DATABASE
def serve(host: str | None, port: int | None, workers: int | None, bootstrap: bool, database_url: str | None) -> None:
    """Upgrade the database and serve predictions over HTTP."""
    settings = read_settings(host=host, port=port, workers=workers, database_url=database_url)
    with engine_at_head(settings, upgraded=True) as engine:
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
        # Nobody asks for the client's address.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Predict for each row of FILE into this.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="With --out: fail checks all rows before it answers the first; skip answers the good ones.",
)
@click.option("--force", is_flag=True, help="With --out: replace a file that is there.")
@DATABASE
def predict(file: Path, out: Path | None, on_error: str, force: bool, database_url: str | None) -> None:
    """Predict for the JSON object in FILE (default: standard input), logged like a request over HTTP.

    With --out FILE is a table of requests, in .csv, .ndjson, .jsonl or .parquet, and so is what is written: each row
    with its answer. A thousand rows are committed together.
    """
    settings = read_settings(database_url=database_url)
    if out is not None:
        _check_files(file, out, force=force)
        _predict_file(settings, file, out, skip=on_error == "skip")
        return
    if force or on_error != "fail":
        raise click.UsageError("--on-error and --force need --out")
    _predict_one(settings, sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())


def _check_files(file: Path, out: Path, *, force: bool) -> None:
    from zap.batch_file import file_format

    if str(file) == "-":
        raise click.UsageError("--out needs a FILE, whose name says what it is: .csv, .ndjson, .jsonl or .parquet")
    file_format(file)
    file_format(out)
    if out.exists() and not force:
        raise click.UsageError(f"{out} is there already; --force replaces it")


def _predict_file(settings: "Settings", file: Path, out: Path, *, skip: bool) -> None:
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.db.production import Production
        from zap.file_prediction import FilePrediction

        production = Production(engine, settings.model_file)
        production.refresh()
        with shown_progress() as progress:
            report = FilePrediction(engine, production.predictor, settings.wall_time).predict(
                file, out, skip=skip, progress=progress
            )
    click.echo(f"{out}: {report.answered:,} answered, {report.skipped:,} skipped")


def _predict_one(settings: "Settings", body: bytes) -> None:
    with engine_at_head(settings, upgraded=False) as engine:
        import msgspec

        from zap.controllers.schemas import PredictReply
        from zap.db.driver_histories import DriverHistories
        from zap.db.drivers import driver_facts
        from zap.db.prediction_log import PredictionLog
        from zap.db.production import Production
        from zap.db.tables import utc_now
        from zap.ml.cells import to_seconds
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
    print_json(msgspec.to_builtins(PredictReply.of(answer, logged)))


@click.command("explain-prediction", cls=Command)
@click.argument("prediction_id", type=click.IntRange(0, 2**63 - 1))
@DATABASE
@JSON
def explain_prediction(prediction_id: int, database_url: str | None, as_json: bool) -> None:
    """Show the row that was scored for a prediction, and score it again with the version that did."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.model_registry import load_version, version
        from zap.db.prediction_log import read_features
        from zap.ml.inference import Predictor

        scored = read_features(engine, prediction_id)
        predictor = Predictor(load_version(engine, version(engine, scored.model_version)), scored.model_version)
        explained = {
            "prediction_id": prediction_id,
            "model_version": scored.model_version,
            **predictor.explain(scored.features, scored.probabilities),
        }
    if as_json:
        print_json(explained)
    else:
        from zap.shown import print_explained

        print_explained(explained)
    if not explained["equal"]:
        fail(NotReproduced("another version of a library or another kind of machine may be why"), as_json=False)


def _bootstrap(engine: "Engine", settings: "Settings") -> None:
    from zap.db.history_store import has_history
    from zap.db.model_registry import load_version, production_version

    if not has_history(engine):
        with shown_progress() as progress:
            report = add_sample_history(engine, progress)
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
