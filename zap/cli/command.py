"""The parts that all commands share: errors, JSON output, settings and the database."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zap.cli.output import check_output, takes_unicode
from zap.errors import InvalidRequest, LibraryMissing, OutputFailed, ZapError
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
# What the loader of libraries of Linux says; it gives no number of an error.
_NO_LIBRARY = "cannot open shared object file"
# The most commands that a message suggests.
_MOST_NEAR = 3
JSON = click.option("--json", "as_json", is_flag=True, help="Print only one JSON document to standard output.")


class WholeNumber(click.IntRange):
    """A whole number in a range. Errors call its type "whole number"."""

    name = "whole number"


class Number(click.FloatRange):
    """A number in a range. Errors call its type "number"."""

    name = "number"


class Command(click.Command):
    """A command that reports errors in a sentence (with --json also as problem details) and by its exit code.

    Attributes:
        prints: whether the command writes to standard output.
    """

    prints = True

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - click's method
        """Return the first sentence of the help, or the part of it before a colon. The text is not cut to the limit."""
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
        except OSError as error:
            # The import of LightGBM ends like this on a system without libgomp, such as a small image of a container.
            if error.errno is not None or _NO_LIBRARY not in str(error):
                raise
            missing = LibraryMissing(f"{error}; on Debian and Ubuntu: apt-get install libgomp1")
            fail(missing, as_json=ctx.params.get("as_json", False))


class SilentCommand(Command):
    """A command that writes only to standard error, such as a server."""

    prints = False


class Group(click.Group):
    """A group whose commands report errors like `Command`."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            near = [f"'{ctx.command_path} {one}'" for one in self._near(name)]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def _near(self, typed: str) -> list[str]:
        """Return the commands that a person may have meant, also commands in groups: `db upgrade` for `upgrade`."""
        from difflib import get_close_matches

        inner = {
            f"{name} {one}": one
            for name, group in self.commands.items()
            if isinstance(group, click.Group)
            for one in group.commands
        }
        named = {name: name for name in self.commands} | inner
        close = set(get_close_matches(typed.lower(), named.values(), n=_MOST_NEAR))
        # `database` for `db`, `prediction` for `predict`.
        return [path for path, name in named.items() if name in close or _is_short_for(name, typed)][:_MOST_NEAR]


def _is_short_for(name: str, typed: str) -> bool:
    """Return whether a text has all letters of a command in order, and begins with the first letter of the command."""
    left = iter(typed.lower())
    return typed[:1].lower() == name[0] and all(letter in left for letter in name)


def read_settings(**overrides: object) -> "Settings":
    """Return the settings like `quiet_settings`, and warn about variables that zap does not know."""
    from zap.variables import unknown_variables

    read = quiet_settings(**overrides)
    for unknown in unknown_variables():
        tell(f"warning: {unknown.sentence}", "warning")
    return read


def quiet_settings(**overrides: object) -> "Settings":
    """Return the settings, overridden by the options that are not None, and configure the log of a command."""
    from zap import settings
    from zap.logs import configure_logs, log_of_command

    read = settings.read_settings(**overrides)
    configure_logs(log_of_command(read))
    return read


@contextmanager
def engine_at_head(
    settings: "Settings", *, upgraded: bool, patience: float | None = None, report: Callable[[str], None] = tell
) -> Iterator["Engine"]:
    """Yield an engine on a database whose schema this code can use.

    Args:
        settings: the database and its options.
        upgraded: whether to upgrade the database first. Otherwise a database that is behind is refused.
        patience: how long (seconds) to wait on SQLite for other writers. Default: PATIENCE_SECONDS.
        report: called with each line of an upgrade.

    Raises:
        DatabaseUnavailable: the database fails inside the block.
        DatabaseBehind, DatabaseAhead: this code cannot use the schema.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from zap.db.engine import create_engine
    from zap.db.schema import check_at_head, upgrade
    from zap.db.unusable import unusable
    from zap.threads import PATIENCE_SECONDS

    if upgraded:
        upgrade(settings.database_url, report=report)
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
        raise unusable(settings.url, error) from error
    finally:
        engine.dispose()


def option_of(field: str) -> str:
    """Return the option that sets a field of a body, such as `--on-better` for `on_better`."""
    return f"--{field.replace('_', '-')}"


@contextmanager
def options_named(*, as_json: bool, option: Callable[[str], str] = option_of) -> Iterator[None]:
    """Let the errors of a body that the options of a command make name the options.

    With --json, they name the fields of the body, as over HTTP.

    Args:
        as_json: whether the command prints JSON.
        option: returns the option that sets a field; the field of an object in the body is `outer/inner`.

    Raises:
        InvalidRequest: the body has errors.
    """
    try:
        yield
    except InvalidRequest as error:
        if as_json:
            raise
        errors = error.details["errors"]
        raise InvalidRequest(
            [one | {"pointer": option(one["pointer"].removeprefix("#/"))} for one in errors]
        ) from error


def confirmed(question: str) -> bool:
    """Ask the person at the terminal, and return whether the answer is yes."""
    try:
        return click.confirm(question, err=True)
    except click.Abort as ended:
        # The end of the input is no answer; Ctrl-C ends the command.
        if isinstance(ended.__context__, EOFError):
            return False
        raise


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
