"""The commands `db`: upgrade, check, copy, back up, restore and compact a whole database."""

from pathlib import Path
from typing import Any

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Group, engine_at_head, print_json, read_settings
from zap.standard_error import tell

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=Group)
def db() -> None:
    """Manage the database."""


@db.command("upgrade")
@DATABASE
@JSON
def upgrade_command(database_url: str | None, as_json: bool) -> None:
    """Upgrade the database to the newest schema. An existing ZapApp database is adopted in place."""
    settings = read_settings(database_url=database_url)
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        tell(line)

    with engine_at_head(settings, upgraded=True, report=report) as engine:
        from zap.db.schema import check_at_head

        warning = check_at_head(engine)
    newest = f"the database {settings.shown_url} has the newest schema"
    if as_json:
        print_json({"message": warning or newest, "steps": lines})
    elif warning is None:
        tell(newest)


@db.command("check")
@DATABASE
@JSON
def check_command(database_url: str | None, as_json: bool) -> None:
    """Read every value, and say what is broken: pages, times, JSON, rows without their parents, ids, artefacts,
    the audit.

    Servers may go on. The command ends with exit code 42 if something is broken.
    """
    settings = read_settings(database_url=database_url)
    # Only to refuse a database that is not at head.
    with engine_at_head(settings, upgraded=False):
        pass
    from zap.cli.shown_databases import print_tables
    from zap.errors import UnsoundDatabase
    from zap.flows.database_check import check_database

    with shown_progress() as progress:
        checked = check_database(settings.database_url, progress)
    findings = [finding.sentence for finding in checked.findings]
    notes = [f"{one.table}: {one.what}, in {one.rows:,} rows, such as {one.examples[0]}" for one in checked.notes]
    if findings and as_json:
        tables = _as_json(checked.tables)
        raise UnsoundDatabase(findings[0], sound=False, tables=tables, findings=findings, notes=notes)
    if as_json:
        print_json({"sound": True, "tables": _as_json(checked.tables), "findings": [], "notes": notes})
        return
    print_tables(checked.tables)
    for note in notes:
        click.echo(f"note: {note}")
    for finding in findings:
        click.echo(f"broken: {finding}")
    if findings:
        raise UnsoundDatabase(f"{len(findings)} finding{'s' * (len(findings) != 1)}")
    click.echo("nothing is broken")


@db.command("copy")
@click.option("--to", "target", required=True, metavar="URL", help="The new database, on either engine.")
@click.option(
    "--finish",
    is_flag=True,
    help="Copy what is new, compare all tables, and let servers use the copy. Stop them first.",
)
@click.option("--compare-all", is_flag=True, help="Compare also the logged rows that an earlier part has compared.")
@click.option("--force", is_flag=True, help="Go on although other programs are connected. They must not write.")
@DATABASE
@JSON
def copy_command(target: str, database_url: str | None, as_json: bool, **chosen: bool) -> None:
    """Copy the whole database into a new one: from SQLite to PostgreSQL or back.

    Servers may go on until the copy is nearly complete. Then stop them, and run the command again with --finish: it
    copies only what is new. An interrupted copy goes on where it was.
    """
    settings, other = read_settings(database_url=database_url), read_settings(database_url=target)
    from zap.flows.database_copy import CopyOptions, copy_database

    with shown_progress() as progress:
        copied = copy_database(settings.database_url, other.database_url, CopyOptions(**chosen), progress, tell)
    if as_json:
        tables = [one._asdict() for one in copied.tables]
        for one in tables:
            del one["settled"]
        print_json(
            {
                "source": copied.source,
                "target": copied.target,
                "finished": copied.finished,
                "tables": tables,
                "notes": copied.notes,
            }
        )
        return
    from zap.cli.shown_databases import print_copied

    print_copied(copied)


@db.command("backup")
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@DATABASE
@JSON
def backup_command(file: Path, force: bool, database_url: str | None, as_json: bool) -> None:
    """Write the whole database to one file, while servers go on.

    FILE is a SQLite database on both engines, and can be restored onto both. It holds all that the database holds, so
    keep it as safe as the database.
    """
    settings = read_settings(database_url=database_url)
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force replaces it")
    from zap.flows.database_backup import back_up

    with shown_progress() as progress:
        made = back_up(settings.database_url, file, progress)
    rows = sum(digest.rows for digest in made.tables.values())
    if as_json:
        found: dict[str, Any] = {"file": str(file), "bytes": made.bytes}
        print_json(found | {"tables": _as_json(made.tables), "notes": made.notes})
        return
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo(f"{file}: {rows:,} rows of {len(made.tables)} tables, {made.bytes:,} bytes")


@db.command("restore")
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Replace all rows that the database has.")
@click.option(
    "--force", is_flag=True, help="On PostgreSQL, go on although other programs are connected. They must not write."
)
@click.option(
    "--keep-erased",
    is_flag=True,
    help="Let drivers come back who were erased after the backup was made, if the key of their erasures is lost.",
)
@DATABASE
@JSON
def restore_command(file: Path, database_url: str | None, as_json: bool, **chosen: bool) -> None:
    """Put the content of a backup into the database: all of it, or nothing if something is wrong.

    Stop all servers first. The file is checked before anything is changed, and is upgraded if an older zap made it.
    Drivers who were erased after the backup was made are erased again.
    """
    settings = read_settings(database_url=database_url)
    from zap.flows.database_restore import RestoreOptions, restore
    from zap.flows.driver_erasure import key_if_any

    options = RestoreOptions(erasure_key=key_if_any(settings), **chosen)
    with shown_progress() as progress:
        restored = restore(file, settings.database_url, options, progress, tell)
    rows = sum(digest.rows for digest in restored.tables.values())
    if as_json:
        found: dict[str, Any] = {"database": settings.shown_url, "made_at": restored.made_at}
        print_json(found | {"tables": _as_json(restored.tables), "notes": restored.notes})
        return
    for note in restored.notes:
        click.echo(f"note: {note}")
    made = f", as it was at {restored.made_at}" if restored.made_at else ""
    click.echo(f"{settings.shown_url} has {rows:,} rows of {len(restored.tables)} tables again{made}")


@db.command("compact")
@DATABASE
@JSON
def compact_command(database_url: str | None, as_json: bool) -> None:
    """Make the SQLite file as small as its rows allow.

    From then on it returns free pages by itself. Stop all servers first. The new file is written beside the old one, so
    the disk needs space for both. On PostgreSQL nothing is done, because it uses the space of removed rows again by
    itself.
    """
    settings = read_settings(database_url=database_url)
    # Only to refuse a database that is not at head.
    with engine_at_head(settings, upgraded=False):
        pass
    from zap.flows.database_compaction import compact

    with shown_progress() as progress:
        done = compact(settings.database_url, progress)
    if as_json:
        print_json({"database": settings.shown_url, **vars(done)})
        return
    click.echo(f"{settings.shown_url}: {done.bytes_before:,} bytes before, {done.bytes_after:,} bytes now")
    if done.note is not None:
        click.echo(f"note: {done.note}")


def _as_json(tables: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"table": name, "rows": digest.rows, "hash": digest.shown} for name, digest in tables.items()]
