"""The tables of `zap db check` and `zap db copy`."""

from collections.abc import Mapping

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text
from zap.db.moving.table_digest import TableDigest
from zap.flows.database_copy import CopyReport

# How many digits of a hash are shown.
_DIGITS = 16


def print_tables(tables: Mapping[str, TableDigest]) -> None:
    """Print the number of rows and the hash of each table."""
    shown = Table(text("table"), number("rows"), text("hash"), box=SIMPLE_HEAD, show_edge=False)
    for name, digest in tables.items():
        shown.add_row(name, f"{digest.rows:,}", digest.shown[:_DIGITS])
    console().print(shown)


def print_copied(copied: CopyReport) -> None:
    """Print what was copied, and what to do now."""
    shown = Table(
        text("table"),
        *map(number, ("rows", "added", "removed")),
        text("hash of both"),
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for one in copied.tables:
        shown.add_row(one.table, f"{one.rows:,}", f"{one.added:,}", f"{one.removed:,}", one.digest[:_DIGITS])
    console().print(shown)
    for note in copied.notes:
        click.echo(f"note: {note}")
    if copied.finished:
        click.echo(
            f"the copy is finished, and equal to its source. Start the servers with ZAP_DATABASE_URL={copied.target}"
            f" (and its password). Start none with {copied.source}: what it writes is not in the copy"
        )
        return
    click.echo(
        "the copy is not finished: rows that are written from now on are not in it. Run the command again to copy them."
        " To finish, stop all servers, and run the command again with --finish"
    )
