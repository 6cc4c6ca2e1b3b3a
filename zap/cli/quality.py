"""The command `quality`: what versions scored on the sessions that followed their answers."""

from typing import TYPE_CHECKING, Any

import click

from zap.cli.command import DATABASE, JSON, Command, WholeNumber, engine_at_head, print_json, read_settings
from zap.cli.time_options import check_range, day

if TYPE_CHECKING:
    from datetime import date


@click.command(cls=Command, short_help="Show how versions score on later sessions.")
@click.option(
    "--version", type=WholeNumber(1, 2**63 - 1), metavar="VERSION", help="The model version. Default: all versions."
)
@click.option(
    "--from",
    "first",
    callback=day,
    metavar="DAY",
    help="The first day, as 2026-01-31. Default: 90 days before the last day.",
)
@click.option("--to", "last", callback=day, metavar="DAY", help="The last day. Default: today.")
@click.option(
    "--by",
    type=click.Choice(["day", "week", "month", "total"]),
    default="total",
    show_default=True,
    help="The periods that are shown one by one; total shows no periods.",
)
@click.option(
    "--kind",
    type=click.Choice(["live", "backtest"]),
    default="live",
    show_default=True,
    help="Answers to real requests (live), or to requests about a moment that was long past (backtest).",
)
@DATABASE
@JSON
def quality(  # noqa: PLR0913, PLR0917 - the options of the command
    version: int | None,
    first: "date | None",
    last: "date | None",
    by: Any,
    kind: Any,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Show what versions scored on the sessions that followed their answers.

    The scores stand beside the baselines on the same sessions and beside the scores in the test of the training.
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.flows.quality import MOST_DAYS, Question, read_quality
        from zap.formats.time_range import wrong_days

        question, now = Question(first, last, version, by, kind), settings.wall_now()
        check_range(wrong_days(*question.days(now.date()), MOST_DAYS))
        report = read_quality(engine, question, now, settings.horizon)
    if as_json:
        print_json(report)
    else:
        from zap.cli.shown_quality import print_quality

        print_quality(report)
