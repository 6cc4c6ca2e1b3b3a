"""The commands `drivers`: export all that is held of a driver, and erase a driver."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Group, confirmed, engine_at_head, print_json, read_settings
from zap.errors import NotConfirmed
from zap.standard_error import tell

if TYPE_CHECKING:
    from zap.flows.driver_erasure import ErasureReport

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=Group)
def drivers() -> None:
    """Export and erase drivers."""


# An id may begin with a minus sign.
@drivers.command(context_settings={"ignore_unknown_options": True})
@click.argument("user_id", metavar="ID")
@click.option("--output", type=_FILE, metavar="FILE", help="The ZIP file. Default: driver.zip in this folder.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@DATABASE
@JSON
def export(user_id: str, output: Path | None, force: bool, database_url: str | None, as_json: bool) -> None:
    """Write all that zap holds of a driver to one ZIP file.

    It has a file of NDJSON for each table, and a README that explains every column. Only you can read the file.
    """
    settings, file = read_settings(database_url=database_url), output or Path("driver.zip")
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force replaces it")
    with engine_at_head(settings, upgraded=False) as engine, shown_progress() as progress:
        from zap.flows.driver_export import export_to_file

        counts = export_to_file(engine, settings, user_id, file, progress)
    if as_json:
        print_json({"file": str(file), "rows": dict(counts)})
    else:
        click.echo(f"{file}: {sum(counts.values()):,} rows")


@drivers.command(context_settings={"ignore_unknown_options": True})
@click.argument("user_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Erase the driver without a question.")
@click.option(
    "--rewrite",
    is_flag=True,
    help="On SQLite, rewrite the whole file afterwards, so that no unused byte is left of the driver. Nobody can write"
    " meanwhile.",
)
@DATABASE
@JSON
def erase(user_id: str, yes: bool, rewrite: bool, database_url: str | None, as_json: bool) -> None:
    """Erase a driver: all that zap holds of the driver. This cannot be undone.

    Every server forgets the driver within two seconds. Sums over all drivers stay.
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.flows.driver_erasure import as_plain, erase_driver

        if not yes:
            _ask(user_id)
        report = erase_driver(engine, settings, user_id, rewrite=rewrite)
    if as_json:
        print_json(as_plain(report))
    else:
        _print(report)


@drivers.command()
@click.option(
    "--output",
    type=_FILE,
    metavar="FILE",
    help="Write the ledger to this file, which `zap drivers erase-again` reads. Erasures that only the file has stay in"
    " it. Default: the ledger is only shown.",
)
@DATABASE
@JSON
def erasures(output: Path | None, database_url: str | None, as_json: bool) -> None:
    """List the erasures, or write them to a file.

    Each line has the time, who erased the driver, the number of rows, and the keyed hash of the driver's id.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.erasure.ledger import read_ledger, write_file

        with engine.connect() as connection:
            entries = read_ledger(connection)
        if output is not None:
            written = write_file(output, entries)
            if as_json:
                print_json({"file": str(output), "erasures": written})
            else:
                click.echo(f"{output}: {written:,} erasure{'s' * (written != 1)}")
            return
    if as_json:
        print_json({"erasures": [entry.as_json() for entry in entries]})
        return
    for entry in entries:
        at = entry.erased_at.isoformat(" ", "seconds")
        click.echo(f"{at}  {sum(entry.counts.values()):>9,} rows  by {entry.who or '–'}  {entry.driver_hash}")


@drivers.command("erase-again")
@click.argument("ledger", type=_FILE, required=False, metavar="[FILE]")
@DATABASE
@JSON
def erase_again_command(ledger: Path | None, database_url: str | None, as_json: bool) -> None:
    """Erase drivers again in an older database.

    Run it after another program than zap, such as pg_restore, has put the database in place.

    FILE is the ledger of the newer database, which `zap drivers erasures --output FILE` has written. On SQLite, zap
    also reads the ledger beside the database, so FILE is not needed, and rewrites the whole file afterwards, so that no
    unused byte is left of the drivers. `zap db restore` erases the drivers by itself.
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine, shown_progress() as progress:
        from zap.db.erasure.remains import overwrite_unused
        from zap.flows.driver_erasure import key_if_any
        from zap.flows.erasure_again import erase_again, ledgers_beside

        newer, key = ledgers_beside(settings.database_url, ledger), key_if_any(settings)
        # First the drivers who can be found: a key that is lost must not keep them.
        done = erase_again(engine, [one for one in newer if key and one.key_id == key.key_id], key, progress)
        is_overwritten = not done.drivers or overwrite_unused(engine)
        erase_again(engine, newer, key, progress)
    if as_json:
        print_json({"erased": done.drivers, "erasures": done.entries})
    else:
        click.echo(f"erased {done.drivers:,} driver{'s' * (done.drivers != 1)} again")
    if not is_overwritten:
        tell(
            "note: the file could not be rewritten: stop all programs that use it, and run `zap db compact`", "warning"
        )


def _ask(user_id: str) -> None:
    """Ask whether to erase a driver.

    Raises:
        NotConfirmed: the answer is no, or nobody is there to answer.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotConfirmed("an erasure cannot be undone; add --yes to erase the driver")
    question = f"Erase driver {user_id!r}: sessions, vehicles, requests and answers? This cannot be undone."
    if not confirmed(question):
        raise NotConfirmed("the answer was no; nothing was erased")


def _print(report: "ErasureReport") -> None:
    for name, count in report.counts.items():
        click.echo(f"{name}: {count:,}")
    click.echo(f"erased {sum(report.counts.values()):,} rows")
    for note in report.notes:
        tell(f"note: {note}", "warning")
