"""The command `db`: upgrading the database."""

import click

from zap.cli.command import DATABASE, JSON, Group, engine_at_head, print_json, read_settings
from zap.standard_error import tell


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
