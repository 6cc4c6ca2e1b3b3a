"""The parts that all commands share: errors, JSON output, settings and the database."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zap.cli.output import check_output, takes_unicode
from zap.errors import DatabaseUnavailable, OutputFailed, ZapError
from zap.standard_error import tell

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


class WholeNumber(click.IntRange):
    """A whole number in a range. An error calls it by the plain name."""

    name = "whole number"


class Number(click.FloatRange):
    """A number in a range. An error calls it by the plain name."""

    name = "number"


class Command(click.Command):
    """A command that reports errors in a sentence (with --json also as problem details) and by its exit code.

    Attributes:
        prints: whether the command writes to standard output.
    """

    prints = True

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - click's method
        """Return the first sentence of the help, or its part before a colon. It is not cut to the limit."""
        first, colon, _ = super().get_short_help_str(len(self.help or "")).partition(": ")
        return f"{first}." if colon else first

    def invoke(self, ctx: click.Context) -> Any:
        if self.prints:
            # The output is checked first, so that no command changes data and then cannot say so.
            check_output()
        try:
            return super().invoke(ctx)
        except OutputFailed:
            raise
        except ZapError as error:
            fail(error, as_json=ctx.params.get("as_json", False))


class SilentCommand(Command):
    """A command that writes only to standard error, such as a server."""

    prints = False


class Group(click.Group):
    """A group whose commands report errors like `Command`."""

    command_class = Command
    group_class = type


def read_settings(**overrides: object) -> "Settings":
    """Return the settings, overridden by the options that are not None, and configure the log of a command."""
    from zap import settings
    from zap.logs import configure_logs, log_of_command

    read = settings.read_settings(**overrides)
    configure_logs(log_of_command(read))
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
        upgrade(settings.database_url, report=tell)
    engine = create_engine(
        settings.database_url,
        sqlite_synchronous=settings.sqlite_synchronous,
        patience=patience or PATIENCE_SECONDS,
    )
    try:
        if not upgraded and (known := check_at_head(engine)):
            tell(f"warning: {known}", "warning")
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
    click.echo(json.dumps(value, ensure_ascii=not takes_unicode(), default=to_builtins))


def fail(error: ZapError, *, as_json: bool) -> NoReturn:
    """Print an error, and exit with its exit code."""
    tell(f"Error: {error.title}: {error.message}", "error")
    for one in error.details.get("errors", ()):
        line = f"line {one['line']} " if "line" in one else ""
        tell(f"  {line}{one['pointer']} {one['detail']}", "error")
    if as_json:
        print_json(error.problem())
    sys.exit(error.exit_code)
