"""The command `serving`: what all server processes have answered."""

import click

from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings


@click.command(cls=Command, short_help="Show answers a minute, times and errors of all servers.")
@DATABASE
@JSON
def serving(database_url: str | None, as_json: bool) -> None:
    """Show answers a minute, times, errors and log delay.

    The tables are about the last hour, day and week, over all server processes and machines. --json also has the
    points of plots. Times are counted in buckets: each one says "at most".
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        import msgspec

        from zap.cli.shown_serving import print_serving
        from zap.flows.serving_figures import serving_figures

        figures = serving_figures(engine)
    if as_json:
        print_json(msgspec.to_builtins(figures))
    else:
        print_serving(figures)
