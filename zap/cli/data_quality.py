"""The command `data-quality`."""

from typing import TYPE_CHECKING

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings

if TYPE_CHECKING:
    from datetime import date


@click.command("data-quality", cls=Command)
@click.option("--from", "since", metavar="DAY", help="The first day (UTC), such as 2026-03-02. Default: 30 days.")
@click.option("--to", "until", metavar="DAY", help="The last day (UTC). Default: today.")
@DATABASE
@JSON
def data_quality_command(since: str | None, until: str | None, database_url: str | None, as_json: bool) -> None:
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

        last = _day("--to", until) or day_of(utc_now())
        first = _day("--from", since) or usual_first(last)
        if not 0 <= (last - first).days < MOST_DAYS:
            raise click.UsageError(f"--from is {first}; it must be at most {MOST_DAYS - 1} days before {last}")
        report = data_quality(engine, first, last)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_data_quality(report)


def _day(option: str, text: str | None) -> "date | None":
    from zap.formats.time_range import read_day

    day = text and read_day(text)
    if text and day is None:
        raise click.UsageError(f"{option} is {text!r}; give a day such as 2026-03-02")
    return day or None
