"""The command `serve`: upgrade the database, and serve predictions over HTTP."""

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, SilentCommand, engine_at_head, quiet_settings
from zap.cli.sample import add_sample_history
from zap.errors import (
    DamagedModel,
    TrainingFailed,
    TrainingLimited,
    TrainingRunning,
    UnusableHistory,
)
from zap.standard_error import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

    from zap.checks.finding import Finding
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
    from zap.checks.all_checks import at_start
    from zap.logs import configure_logs, shown_format
    from zap.server.address import check_address
    from zap.variables import refuse_missed_key

    settings = quiet_settings(host=host, port=port, workers=workers, root_path=root_path, database_url=database_url)
    # A server that writes JSON writes nothing else.
    settings = settings.model_copy(update={"log_format": shown_format(settings)})
    configure_logs(settings)
    refuse_missed_key(settings)
    _tell(at_start(settings))
    with engine_at_head(settings, upgraded=True) as engine:
        from zap.checks.database import look_at_server
        from zap.db.schema import check_rights

        check_rights(engine)
        # A first training may take long, so a port that is taken is told before it.
        check_address(settings)
        _tell(look_at_server(engine, settings))
        if bootstrap:
            _bootstrap(engine, settings)
    from zap.server.serving import run_server

    # The server's processes read their settings from the environment.
    os.environ.update(settings.environment())
    run_server(settings)


def _tell(findings: "Iterable[Finding]") -> None:
    """Tell the operator what is wrong with the settings and their surroundings. The server starts all the same."""
    for finding in findings:
        if finding.severity != "note":
            tell(f"warning: {finding.sentence}", "warning", check=finding.id)


def _bootstrap(engine: "Engine", settings: "Settings") -> None:
    from zap.db.history.history_rows import has_history
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
