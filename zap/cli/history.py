"""The command `import-history`, which adds files to the history."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings

if TYPE_CHECKING:
    from zap.flows.history_report import ImportReport


@click.command("import-history", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--dry-run", is_flag=True, help="Show how the file would be read and what would be added, and store nothing."
)
@click.option(
    "--map", "mapping", multiple=True, metavar="THEIRS=OURS",
    help='Read the column THEIRS of the file as the column OURS of zap, such as "Plug In=charging_start_time". Join a'
    ' date and a time of day with "+". Without a name after =, zap ignores the column. May be repeated. Default: zap'
    " finds the columns by their names.",
)  # fmt: skip
@click.option(
    "--map-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use the options in a file of --save-map. Default: none.",
)
@click.option(
    "--save-map",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write --map, --date-format, --decimal, --encoding and --sheet to this file. Default: none.",
)
@click.option(
    "--date-format", metavar="FORMAT",
    help="day-first, month-first or year-first, for dates such as 04/05/2024 or 24/05/04; or a pattern such as"
    " %d.%m.%Y %H:%M. Default: zap finds it in the file.",
)  # fmt: skip
@click.option(
    "--decimal",
    type=click.Choice(["point", "comma"]),
    help="The mark before the decimals. Default: zap finds it in the file.",
)
@click.option(
    "--encoding",
    help="The encoding of the text, such as cp1252. Default: UTF-16 or UTF-32 if the file begins with its byte order"
    " mark, else UTF-8.",
)
@click.option("--sheet", metavar="NAME", help="The sheet of an Excel file. Default: the first visible sheet with data.")
@click.option("--skip-bad-rows", is_flag=True, help="Import the good rows of a file that also has bad rows.")
@DATABASE
@JSON
def import_history_command(  # noqa: PLR0913, PLR0917 - one for each option
    files: tuple[Path, ...],
    dry_run: bool,
    mapping: tuple[str, ...],
    map_file: Path | None,
    save_map: Path | None,
    date_format: str | None,
    decimal: str | None,
    encoding: str | None,
    sheet: str | None,
    skip_bad_rows: bool,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Add the charging sessions in FILES to the history: CSV or JSON, also gzipped, Parquet, or Excel (.xlsx).

    Importing a file a second time adds nothing. zap reads and checks all files before it stores the first one. With
    --dry-run, zap shows which column of the file it would read as which column of zap, how it would read dates and
    numbers, which columns it did not find, which rows it would refuse, and how many rows it would add and change. If
    the import would refuse a file, the dry run ends with the exit code of the import (19).
    """
    from zap.formats.history_choices import read_choices, save_choices

    choices = read_choices(map_file, mapping, date_format=date_format, decimal=decimal, encoding=encoding, sheet=sheet)
    settings = read_settings(database_url=database_url)
    if save_map is not None:
        # Written first: nothing is imported if this file cannot be written.
        save_choices(save_map, choices)
    choices = replace(choices, skip_bad_rows=skip_bad_rows)
    reports = []
    if dry_run:
        from zap.flows.history_preview import preview_files

        url, wall_time = settings.database_url, settings.wall_time
        for report in preview_files(url, files, wall_time=wall_time, choices=choices, shown=shown_progress):
            reports.append(report)
            _show(report, as_json)
    else:
        with engine_at_head(settings, upgraded=True) as engine:
            from zap.flows.history_import import checked_files, store_files

            with (
                shown_progress() as progress,
                checked_files(files, wall_time=settings.wall_time, choices=choices, progress=progress) as checked,
            ):
                reports = store_files(engine, checked, choices=choices, progress=progress)
        for report in reports:
            _show(report, as_json)
    if as_json:
        printed = [report.as_dict() for report in reports]
        print_json(printed[0] if len(printed) == 1 else printed)


def _show(report: "ImportReport", as_json: bool) -> None:
    """Print a report for people as soon as its file is done."""
    if not as_json:
        for line in report.lines():
            click.echo(line)
