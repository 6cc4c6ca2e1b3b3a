"""The commands `predictions`: list and export the answers to requests, and remove the predictions of trainings."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Group, WholeNumber, engine_at_head, print_json, read_settings
from zap.cli.time_options import check_range, moment

if TYPE_CHECKING:
    from zap.db.log.prediction_list import Wanted

_Function = TypeVar("_Function", bound=Callable[..., Any])

_NUMBER = WholeNumber(1, 2**63 - 1)


@click.group(cls=Group)
def predictions() -> None:
    """List, export and remove logged predictions."""


_FILTERS = (
    click.option(
        "--from",
        "since",
        callback=moment,
        metavar="TIME",
        help="Only requests from this moment on: 2026-03-02, or 2026-03-02T18:30:00+01:00; UTC without an offset."
        " Default: all.",
    ),
    click.option(
        "--to", "until", callback=moment, metavar="TIME", help="Only requests before this moment. Default: all."
    ),
    click.option("--user-id", help="Only answers for this driver. Default: all drivers."),
    click.option(
        "--version", "model_version", type=_NUMBER, help="Only answers of this model version. Default: all versions."
    ),
    click.option("--predicted-class", help="Only answers with this charger type. Default: all types."),
    click.option(
        "--actual-class", help="Only answers after which the driver used this charger type. Default: all answers."
    ),
    click.option(
        "--outcome",
        type=click.Choice(["matched", "superseded", "waiting", "no_driver"]),
        help="Only answers with this outcome. Default: all outcomes.",
    ),
    click.option(
        "--kind", type=click.Choice(["live", "backtest"]), help="Only answers of this kind. Default: both kinds."
    ),
    click.option("--input-id", type=_NUMBER, help="Only the answer to this request. Default: all requests."),
)


def _filters(command: _Function) -> _Function:
    """Add the options that say which answers to list."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@predictions.command("list")
@_filters
@click.option("--limit", type=WholeNumber(1, 1000), default=20, show_default=True, help="Show at most this many rows.")
@click.option("--before", type=_NUMBER, help="Only answers with smaller numbers. Default: all.")
@DATABASE
@JSON
def list_command(limit: int, before: int | None, database_url: str | None, as_json: bool, **filters: Any) -> None:
    """List answers and their outcomes, newest first.

    The driver and the outcome of an answer are known when the follower has read it.
    """
    settings = read_settings(database_url=database_url)
    wanted = _wanted(filters)
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.cli.shown_predictions import print_predictions
        from zap.flows.prediction_list import list_predictions
        from zap.formats.values import LARGEST_ID

        page = list_predictions(engine, wanted, limit, before or LARGEST_ID, math.inf)
    if as_json:
        print_json({"predictions": page.rows, "next_before": page.before})
    else:
        print_predictions(page.rows)


@predictions.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_filters
@click.option("--force", is_flag=True, help="Replace an existing file, or the .part file of an earlier run.")
@DATABASE
@JSON
def export(file: Path, force: bool, database_url: str | None, as_json: bool, **filters: Any) -> None:
    """Write answers and their outcomes to a file, newest first.

    The name of FILE says its format: .csv, .ndjson, .jsonl or .parquet; also .csv.gz, .ndjson.gz and .jsonl.gz. If the
    command fails, there is no file.
    """
    settings = read_settings(database_url=database_url)
    wanted = _wanted(filters)
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force replaces it")
    with engine_at_head(settings, upgraded=False) as engine, shown_progress() as progress:
        from zap.flows.prediction_export import export_predictions

        exported = export_predictions(engine, wanted, file, force=force, progress=progress)
    if as_json:
        print_json({"out": str(file), "predictions": exported})
    else:
        click.echo(f"{file}: {exported:,} prediction{'s' * (exported != 1)}")


def _wanted(filters: dict[str, Any]) -> "Wanted":
    """Return the filter that the options say.

    Raises:
        UsageError: the range ends before it begins.
    """
    from zap.db.log.prediction_list import Wanted
    from zap.formats.time_range import wrong_moments

    wanted = Wanted(**filters)
    check_range(wrong_moments(wanted.since, wanted.until))
    return wanted


@predictions.command()
@click.option(
    "--source", type=click.Choice(["train"]), required=True, help="Only predictions of trainings can be removed."
)
@click.option(
    "--keep-versions",
    type=WholeNumber(0, 2**63 - 1),
    required=True,
    metavar="N",
    help="Keep the predictions of the N newest versions.",
)
@DATABASE
@JSON
def prune(source: str, keep_versions: int, database_url: str | None, as_json: bool) -> None:
    """Remove the predictions that trainings of older versions logged.

    zap keeps the predictions of the version in production, and all predictions that answered requests.
    """
    with (
        engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine,
        shown_progress() as progress,
    ):
        from zap.db.log.training_log import remove_train_predictions, versions_to_prune

        versions, removed = versions_to_prune(engine, keep_versions), 0
        for number, version in enumerate(versions, start=1):
            removed += remove_train_predictions(engine, [version])
            progress("prune", number, len(versions))
    pruned = {"source": source, "versions": versions, "removed": removed}
    if as_json:
        print_json(pruned)
    else:
        click.echo(f"removed {removed:,} predictions of {len(versions)} version{'s' * (len(versions) != 1)}")
