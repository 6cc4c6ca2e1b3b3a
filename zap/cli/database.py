"""db: looking after the database."""

import click

from zap.cli.command import DATABASE, Group, engine_at_head, read_settings


@click.group(cls=Group)
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@DATABASE
def upgrade_command(database_url: str | None) -> None:
    """Bring the database to the newest schema; an existing ZapApp database is adopted in place."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=True):
        click.echo("the database is at head", err=True)
