"""The commands `serve`, `predict` and `explain-prediction`, which use the model in production."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Command, SilentCommand, engine_at_head, fail, print_json, read_settings
from zap.cli.sample import add_sample_history
from zap.errors import (
    DamagedModel,
    NotReproduced,
    TrainingFailed,
    TrainingLimited,
    TrainingRunning,
    UnusableHistory,
)
from zap.standard_error import tell

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.settings import Settings

# How long (seconds) zap waits for a --bootstrap training that was told to stop. This is longer than the training's own
# limits for its end.
_STOP_SECONDS = 6


@click.command(cls=SilentCommand)
@click.option("--host", help="The address to listen on. Default: ZAP_HOST, else 127.0.0.1.")
@click.option("--port", type=int, help="The port to listen on. Default: ZAP_PORT, else 8000.")
@click.option("--workers", type=int, help="The number of server processes. Default: ZAP_WORKERS, else 1.")
@click.option("--root-path", help="The path under which a proxy shows zap. Default: ZAP_ROOT_PATH, else none.")
@click.option(
    "--bootstrap",
    is_flag=True,
    help="Add the sample history if the history is empty, and train if no model can serve.",
)
@DATABASE
def serve(  # noqa: PLR0913, PLR0917 - one for each option
    host: str | None,
    port: int | None,
    workers: int | None,
    root_path: str | None,
    bootstrap: bool,
    database_url: str | None,
) -> None:
    """Upgrade the database and serve predictions over HTTP."""
    from zap.logs import configure_logs, shown_format
    from zap.server.address import check_address
    from zap.settings import service_link

    settings = read_settings(host=host, port=port, workers=workers, root_path=root_path, database_url=database_url)
    # A server that writes JSON writes nothing else.
    settings = settings.model_copy(update={"log_format": shown_format(settings)})
    configure_logs(settings)
    if ignored := service_link():
        tell(f"warning: {ignored}", "warning")
    with engine_at_head(settings, upgraded=True) as engine:
        from zap.db.schema import check_rights

        check_rights(engine)
        # A first training may take long, so a port that is taken is told before it.
        check_address(settings)
        if bootstrap:
            _bootstrap(engine, settings)
    if settings.host not in {"127.0.0.1", "localhost", "::1"} and settings.api_key is None:
        tell(
            f"warning: other machines can reach {settings.host} and ZAP_API_KEY is not set:"
            " any client that reaches zap can train and predict; set ZAP_API_KEY, or use --host 127.0.0.1",
            "warning",
        )
    from zap.server.serving import run_server

    # The server's processes read their settings from the environment.
    os.environ.update(settings.environment())
    run_server(settings)


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Predict for each row of FILE, and write the rows with their predictions to this file.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="With --out: fail predicts nothing if any row has an error; skip predicts for the good rows.",
)
@click.option("--force", is_flag=True, help="With --out: replace an existing file.")
@DATABASE
def predict(file: Path, out: Path | None, on_error: str, force: bool, database_url: str | None) -> None:
    """Predict for one JSON object, or for each row of a file.

    Without --out, FILE (default: standard input) has one JSON object. zap logs it like a request over HTTP, and prints
    the prediction.

    With --out, FILE is a table of requests (.csv, .ndjson, .jsonl or .parquet). zap writes each row with its prediction
    to the output file, which may have another of these formats. It commits the rows in groups of 1,000.
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
    from zap.formats.request_files import file_format

    if str(file) == "-":
        raise click.UsageError("--out needs a FILE whose name ends in .csv, .ndjson, .jsonl or .parquet")
    file_format(file)
    file_format(out)
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists already; --force replaces it")


def _predict_file(settings: "Settings", file: Path, out: Path, *, skip: bool) -> None:
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.db.versions.production import Production
        from zap.flows.file_prediction import FilePrediction

        production = Production(engine, settings.model_file)
        production.refresh()
        with shown_progress() as progress:
            report = FilePrediction(engine, production.predictor, settings.wall_time).predict(
                file, out, skip=skip, progress=progress
            )
    click.echo(f"{out}: {report.answered:,} answered, {report.skipped:,} skipped")


def _predict_one(settings: "Settings", body: bytes) -> None:
    with engine_at_head(settings, upgraded=False) as engine:
        import asyncio
        from contextlib import closing

        import msgspec

        from zap.controllers.prediction_reply import PredictReply
        from zap.db.history.driver_histories import DriverHistories
        from zap.db.log.prediction_log import PredictionLog
        from zap.db.versions.production import Production
        from zap.flows.prediction import OnePrediction

        production = Production(engine, settings.model_file)
        production.refresh()
        with closing(PredictionLog(engine)) as log, closing(DriverHistories(engine)) as histories:
            one = OnePrediction(engine, production, histories, log, settings.wall_time)
            answer, logged = asyncio.run(one.predict(body))
    print_json(msgspec.to_builtins(PredictReply.of(answer, logged)))


@click.command("explain-prediction", cls=Command)
@click.argument("prediction_id", type=click.IntRange(0, 2**63 - 1))
@DATABASE
@JSON
def explain_prediction(prediction_id: int, database_url: str | None, as_json: bool) -> None:
    """Show the features of a prediction, and compute the prediction again.

    zap computes it with the model version that made the prediction.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.log.stored_predictions import read_features
        from zap.db.versions.model_registry import load_version, version
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
        from zap.cli.shown import print_explained

        print_explained(explained)
    if not explained["equal"]:
        fail(NotReproduced("a library or the kind of machine may have changed since"), as_json=False)


def _bootstrap(engine: "Engine", settings: "Settings") -> None:
    from zap.db.history.history_store import has_history
    from zap.db.versions.model_registry import load_version, production_version

    if not has_history(engine):
        with shown_progress() as progress:
            report = add_sample_history(engine, progress)
        tell(report["message"])
    version = production_version(engine)
    try:
        serves = version is not None and bool(load_version(engine, version))
    except DamagedModel as error:
        tell(f"warning: the version in production cannot serve: {error.message}", "warning")
        serves = False
    if not serves:
        exit_code = _train_in_child(settings)
        if exit_code in {TrainingRunning.exit_code, UnusableHistory.exit_code, TrainingLimited.exit_code}:
            tell("warning: there is no model yet; /predict answers 503 until a training succeeds", "warning")
        elif exit_code < 0:
            raise TrainingFailed(f"the process of the training was ended by signal {-exit_code}")
        elif exit_code:
            sys.exit(exit_code)


def _train_in_child(settings: "Settings") -> int:
    """Train in a child process, so that its memory is free before the server starts. Return its exit code.

    On SIGTERM or Ctrl-C this process stops the training, waits until it has cleaned up, and exits without serving.
    After _STOP_SECONDS it ends the training by force.
    """
    told: list[signal.Signals] = []
    children: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        told.append(signal.Signals(number))
        for child in children:
            _end(child)

    # If this process was started with an ignored signal, as nohup does, it continues to ignore the signal.
    heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) is not signal.SIG_IGN]
    before = {sign: signal.signal(sign, stop) for sign in heard}
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "zap", "train", "--no-upgrade"],
            # A server may run with a closed standard output.
            stdout=subprocess.DEVNULL if sys.stdout is None else None,
            env=settings.training_environment(os.environ),
        )
        children.append(child)
        if told:
            _end(child)
        exit_code = child.wait()
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
    if told:
        # Exit even if the training had just finished: a signal that was received must not be lost.
        sys.exit(128 + told[0])
    return exit_code


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Tell a training to end, and end it by force if it has not ended in time."""
    child.terminate()
    force = threading.Timer(_STOP_SECONDS, child.kill)
    force.daemon = True
    force.start()
