"""What all commands have in common: how they fail, print JSON, read settings and get at the database."""

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

DATABASE = click.option("--database-url", help="Default: ZAP_DATABASE_URL.")
JSON = click.option("--json", "as_json", is_flag=True, help="Standard output is one JSON document, nothing else.")


class Command(click.Command):
    """A command whose errors are told in a sentence (or as problem details, with --json) and by the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZapError as error:
            fail(error, as_json=ctx.params.get("as_json", False))


class Group(click.Group):
    command_class = Command
    group_class = type


def read_settings(**overrides: object) -> "Settings":
    from zap import settings
    from zap.logs import configure_logs

    read = settings.read_settings(**overrides)
    configure_logs(read)
    return read


@contextmanager
def engine_at_head(settings: "Settings", *, upgraded: bool, patience: float | None = None) -> Iterator["Engine"]:
    """An engine on a database at head: upgraded first, or refused when it is not.

    With more `patience` (seconds) than usual it waits on SQLite for whoever else writes for long.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from zap.db.engine import PATIENCE_SECONDS, create_engine
    from zap.db.schema import check_at_head, upgrade

    if upgraded:
        upgrade(settings.database_url, report=lambda line: click.echo(line, err=True))
    engine = create_engine(
        settings.database_url,
        sqlite_synchronous=settings.sqlite_synchronous,
        patience=patience or PATIENCE_SECONDS,
    )
    try:
        if not upgraded:
            check_at_head(engine)
        yield engine
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DatabaseUnavailable(f"{settings.shown_url}: {reason}") from error
    finally:
        engine.dispose()


def print_json(value: Any) -> None:
    from msgspec import to_builtins

    # Stamps and wall times are as HTTP has them.
    click.echo(json.dumps(value, ensure_ascii=False, default=to_builtins))


def fail(error: ZapError, *, as_json: bool) -> NoReturn:
    click.echo(f"Error: {error.title}: {error.message}", err=True)
    for one in error.details.get("errors", ()):
        line = f"line {one['line']} " if "line" in one else ""
        click.echo(f"  {line}{one['pointer']} {one['detail']}", err=True)
    if as_json:
        print_json(error.problem())
    sys.exit(error.exit_code)
