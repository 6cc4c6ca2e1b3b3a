"""import-history and sample-history: where the history comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings
from zap.progress import Progress, shown_progress

if TYPE_CHECKING:
    from sqlalchemy import Engine


@click.command("import-history", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--skip-bad-rows", is_flag=True, help="Import the other rows of a file that has bad ones.")
@DATABASE
@JSON
def import_history_command(file: Path, skip_bad_rows: bool, database_url: str | None, as_json: bool) -> None:
    """Add the charging sessions in FILE (.csv, .csv.gz, .parquet) to the history; importing twice adds nothing."""
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=True) as engine:
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
        print_json(report.as_dict())
    else:
        for line in report.lines():
            click.echo(line)


@click.command("sample-history", cls=Command)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--drivers", type=int, default=None, help="How many drivers.")
@click.option("--months", type=int, default=None, help="How many months of sessions.")
@DATABASE
@JSON
def sample_history_command(
    seed: int,
    drivers: int | None,
    months: int | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Add a synthetic history: made up, deterministic, with the best reachable scores known."""
    settings = read_settings(database_url=database_url)
    size = {name: value for name, value in (("drivers", drivers), ("months", months)) if value is not None}
    with engine_at_head(settings, upgraded=True) as engine, shown_progress() as progress:
        report = add_sample_history(engine, progress, seed=seed, **size)
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")


def add_sample_history(engine: "Engine", progress: Progress, **options: int) -> dict[str, Any]:
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
