"""The commands `predictions`: list and export the answers to requests, and remove old predictions."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Group, WholeNumber, engine_at_head, print_json, read_settings
from zap.cli.time_options import check_range, moment

if TYPE_CHECKING:
    from zap.db.log.prediction_list import Wanted
    from zap.flows.retention import Retention
    from zap.progress import Progress

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
        removed_before = page.removed_before and page.removed_before.isoformat()
        print_json({"predictions": page.rows, "next_before": page.before, "removed_before": removed_before})
    else:
        print_predictions(page.rows, page.removed_before)


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
    "--source",
    type=click.Choice(["train", "inference"]),
    required=True,
    help="train: predictions that trainings logged; inference: requests with their answers and outcomes.",
)
@click.option(
    "--keep-versions",
    type=WholeNumber(0, 2**63 - 1),
    metavar="N",
    help="With --source train: keep the predictions of the N newest versions. Default: none; give a number.",
)
@click.option(
    "--keep-days",
    type=WholeNumber(1, 2**63 - 1),
    metavar="N",
    help="With --source inference: keep the requests of the last N days. Default: none; give a number.",
)
@DATABASE
@JSON
def prune(
    source: str, keep_versions: int | None, keep_days: int | None, database_url: str | None, as_json: bool
) -> None:
    """Remove old predictions of trainings, or old requests.

    Requests are removed with their answers and outcomes.

    zap keeps the predictions of the version in production and of versions on trial, and requests whose answers are
    still needed. Daily sums stay. The follower does the same by itself if ZAP_KEEP_TRAIN_PREDICTIONS_VERSIONS or
    ZAP_KEEP_REQUESTS_DAYS is set.
    """
    wanted, other = (keep_versions, keep_days) if source == "train" else (keep_days, keep_versions)
    name, other_name = ("--keep-versions", "--keep-days")[:: 1 if source == "train" else -1]
    if wanted is None or other is not None:
        raise click.UsageError(f"--source {source} needs {name}, and does not take {other_name}")
    # The setting says how many days are allowed.
    settings = read_settings(database_url=database_url, keep_requests_days=keep_days)
    with engine_at_head(settings, upgraded=False) as engine, shown_progress() as progress:
        from zap.db.monitoring.removals import lock_follower
        from zap.flows.retention import Retention

        retention = Retention(engine, settings, lock_follower)
        if source == "train":
            pruned = _prune_trainings(retention, wanted, progress)
        else:
            pruned = _prune_requests(retention, wanted, progress)
        returned = 0
        for pages in retention.free_pages():
            returned += pages
            progress("return free pages", returned, returned)
    if as_json:
        print_json({"source": source, **pruned})
    elif source == "train":
        versions = len(pruned["versions"])
        click.echo(f"removed {pruned['removed']:,} predictions of {versions} version{'s' * (versions != 1)}")
    else:
        kept = f"; {pruned['kept']:,} older ones are still needed" if pruned["kept"] else ""
        click.echo(f"removed {pruned['removed']:,} request{'s' * (pruned['removed'] != 1)}{kept}")


def _prune_trainings(retention: "Retention", keep_versions: int, progress: "Progress") -> dict[str, Any]:
    removed: Counter[int] = Counter()
    for version, some in retention.train_predictions(keep_versions):
        removed[version] += some
        progress("prune", removed.total(), removed.total())
    return {"versions": sorted(removed), "removed": removed.total()}


def _prune_requests(retention: "Retention", keep_days: int, progress: "Progress") -> dict[str, Any]:
    from zap.db.tables import utc_now

    removed = looked_at = 0
    for portion in retention.requests(keep_days, utc_now()):
        removed += portion.removed.get("inference_inputs", 0)
        looked_at += portion.looked_at
        progress("prune", looked_at, looked_at)
    return {"removed": removed, "kept": looked_at - removed}
