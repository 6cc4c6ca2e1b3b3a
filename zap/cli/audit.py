"""The commands `audit`: list who changed what, and check that no row was changed or removed."""

import math
from typing import TYPE_CHECKING, Any

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Group, WholeNumber, engine_at_head, print_json, read_settings
from zap.cli.time_options import check_range, moment
from zap.errors import AuditBroken

if TYPE_CHECKING:
    from datetime import datetime


@click.group(cls=Group)
def audit() -> None:
    """See who changed what, and check that no row is gone."""


@audit.command("list")
@click.option(
    "--from",
    "since",
    callback=moment,
    metavar="TIME",
    help="The first moment: 2026-03-02, or 2026-03-02T18:30:00+01:00; UTC without an offset. Default: all.",
)
@click.option(
    "--to", "until", callback=moment, metavar="TIME", help="The moment at which the range ends. Default: now."
)
@click.option("--who", help="Only changes by this key or person. Default: all.")
@click.option(
    "--action", help="Only this action, such as version.promote, or all of a kind, such as version. Default: all."
)
@click.option("--subject", help="Only changes of this subject, such as 'version 5'. Default: all.")
@click.option("--limit", type=WholeNumber(1, 1000), default=20, show_default=True, help="Show at most this many rows.")
@click.option("--before", type=WholeNumber(1, 2**63 - 1), help="Only rows with smaller numbers. Default: all.")
@DATABASE
@JSON
def list_command(  # noqa: PLR0913, PLR0917 - one for each option
    limit: int,
    before: int | None,
    since: "datetime | None",
    until: "datetime | None",
    database_url: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """List the changes, newest first."""
    from zap.formats.time_range import wrong_moments

    check_range(wrong_moments(since, until))
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.audit_list import WantedChanges, list_changes
        from zap.formats.values import LARGEST_ID

        wanted = WantedChanges(since=since, until=until, **filters)
        page = list_changes(engine, wanted, limit, before or LARGEST_ID, math.inf)
    if as_json:
        head = {"count": page.head.rows, "hash": page.head.hash}
        print_json({"audit": page.rows, "next_before": page.before, "head": head})
    else:
        from zap.cli.shown_audit import print_audit

        print_audit(page.rows)


@audit.command()
@click.option(
    "--head", metavar="HASH", help="A hash that was written down earlier: the audit must have it. Default: none."
)
@DATABASE
@JSON
def verify(head: str | None, database_url: str | None, as_json: bool) -> None:
    """Check that no row of the audit was changed, removed or inserted. Servers may go on.

    The command prints the number and the hash of the newest row. Write them down elsewhere: with --head, a later check
    shows that no row up to this one was changed, even by somebody who can compute all hashes again. The command ends
    with exit code 44 if something is wrong, and names the first broken row.
    """
    known = None if head is None else head.strip().lower()
    with (
        engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine,
        shown_progress() as progress,
    ):
        from zap.db.audit_chain import verify as verify_chain

        found = verify_chain(engine, known, progress)
    newest = {"rows": found.head.rows, "hash": found.head.hash}
    if found.why is not None:
        raise AuditBroken(found.why, row=found.broken, **newest)
    if known is not None and found.known_at is None:
        raise AuditBroken(
            f"no row has the hash {known}: rows were removed or made anew since it was written down, or an older backup"
            " was restored",
            row=None,
            **newest,
        )
    if as_json:
        print_json({"whole": True, **newest, "head_at": found.known_at})
        return
    click.echo(f"the audit is whole: {found.head.rows:,} row{'s' * (found.head.rows != 1)}")
    click.echo(f"newest hash: {found.head.hash}")
    if known is not None:
        click.echo(f"the hash that was written down is the hash of row {found.known_at}")
