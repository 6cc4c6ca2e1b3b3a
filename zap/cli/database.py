"""The command `db`: upgrading the database."""

import click

from zap.cli.command import DATABASE, Group, engine_at_head, read_settings


@click.group(cls=Group)
def db() -> None:
    """Manage the database."""


@db.command("upgrade")
@DATABASE
def upgrade_command(database_url: str | None) -> None:
    """Upgrade the database to the newest schema. An existing ZapApp database is adopted in place."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=True) as engine:
        from zap.db.schema import check_at_head

        if check_at_head(engine) is None:
            click.echo("the database has the newest schema", err=True)
