"""The command line. Each command imports the heavy packages that it needs, so that `zap --help` is quick."""

import click

from zap import __version__
from zap.cli.alarms import alarms
from zap.cli.audit import audit
from zap.cli.check import check_command
from zap.cli.data_quality import data_quality_command
from zap.cli.database import db
from zap.cli.drivers import drivers
from zap.cli.following import follow
from zap.cli.history import import_history_command
from zap.cli.keys import keys
from zap.cli.models import models
from zap.cli.predicting import explain_prediction, predict
from zap.cli.predictions import predictions
from zap.cli.program import Program
from zap.cli.quality import quality
from zap.cli.sample import sample_history_command
from zap.cli.serving import serve
from zap.cli.serving_figures import serving
from zap.cli.sessions import sessions
from zap.cli.training import train, tune


@click.group(
    cls=Program,
    commands=[
        serve,
        train,
        tune,
        predict,
        explain_prediction,
        models,
        predictions,
        alarms,
        quality,
        data_quality_command,
        serving,
        import_history_command,
        sample_history_command,
        sessions,
        drivers,
        follow,
        keys,
        db,
        audit,
        check_command,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="zap")
def main() -> None:
    """Predict which charger type fits a driver's next session. zap learns from the charging history."""
