"""The parts that all commands share: errors, JSON output, settings and the database."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zap.errors import DatabaseUnavailable, ZapError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.settings import Settings

DATABASE = click.option(
    "--database-url",
    metavar="URL",
    help="The database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME. Default: ZAP_DATABASE_URL, else"
    " sqlite:///data/charge_database_alt.sqlite.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print only one JSON document to standard output.")


class Command(click.Command):
    """A command that reports errors in a sentence (with --json also as problem details) and by its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZapError as error:
            fail(error, as_json=ctx.params.get("as_json", False))


class Group(click.Group):
    """A group whose commands report errors like `Command`."""

    command_class = Command
    group_class = type


def read_settings(**overrides: object) -> "Settings":
    """Return the settings, overridden by the options that are not None, and configure the logs."""
    from zap import settings
    from zap.logs import configure_logs

    read = settings.read_settings(**overrides)
    configure_logs(read)
    return read


@contextmanager
def engine_at_head(settings: "Settings", *, upgraded: bool, patience: float | None = None) -> Iterator["Engine"]:
    """Yield an engine on a database whose schema this code can use.

    Args:
        settings: the database and its options.
        upgraded: whether to upgrade the database first. Otherwise a database that is behind is refused.
        patience: how long (seconds) to wait on SQLite for other writers. Default: PATIENCE_SECONDS.

    Raises:
        DatabaseUnavailable: the database fails inside the block.
        DatabaseBehind, DatabaseAhead: this code cannot use the schema.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from zap.db.engine import create_engine
    from zap.db.schema import check_at_head, upgrade
    from zap.threads import PATIENCE_SECONDS

    if upgraded:
        upgrade(settings.database_url, report=lambda line: click.echo(line, err=True))
    engine = create_engine(
        settings.database_url,
        sqlite_synchronous=settings.sqlite_synchronous,
        patience=patience or PATIENCE_SECONDS,
    )
    try:
        if not upgraded and (known := check_at_head(engine)):
            click.echo(f"warning: {known}", err=True)
        yield engine
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DatabaseUnavailable(f"{settings.shown_url}: {reason}") from error
    finally:
        engine.dispose()


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    from msgspec import to_builtins

    # Timestamps and wall times have the same form as over HTTP.
    click.echo(json.dumps(value, ensure_ascii=False, default=to_builtins))


def fail(error: ZapError, *, as_json: bool) -> NoReturn:
    """Print an error, and exit with its exit code."""
    click.echo(f"Error: {error.title}: {error.message}", err=True)
    for one in error.details.get("errors", ()):
        line = f"line {one['line']} " if "line" in one else ""
        click.echo(f"  {line}{one['pointer']} {one['detail']}", err=True)
    if as_json:
        print_json(error.problem())
    sys.exit(error.exit_code)
