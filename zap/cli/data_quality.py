"""The command `data-quality`."""

from typing import TYPE_CHECKING

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings
from zap.cli.time_options import check_range, day

if TYPE_CHECKING:
    from datetime import date


@click.command("data-quality", cls=Command)
@click.option(
    "--from", "since", callback=day, metavar="DAY", help="The first day (UTC), such as 2026-03-02. Default: 30 days."
)
@click.option("--to", "until", callback=day, metavar="DAY", help="The last day (UTC). Default: today.")
@DATABASE
@JSON
def data_quality_command(since: "date | None", until: "date | None", database_url: str | None, as_json: bool) -> None:
    """Show which values were missing, unknown or refused.

    The report is about requests and reported sessions. The tables show all days together, and the number of requests of
    each day; --json shows each day in full. Refused requests are counted by field and reason, without their values.
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        import msgspec

        from zap.cli.shown_data_quality import print_data_quality
        from zap.db.monitoring.data_quality_days import day_of
        from zap.db.tables import utc_now
        from zap.flows.data_quality import MOST_DAYS, data_quality, usual_first
        from zap.formats.time_range import wrong_days

        last = until or day_of(utc_now())
        first = since or usual_first(last)
        check_range(wrong_days(first, last, MOST_DAYS))
        report = data_quality(engine, first, last)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_data_quality(report)
