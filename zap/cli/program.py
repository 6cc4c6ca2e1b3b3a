"""The whole command line: how it ends if it is interrupted, or if its output cannot be written."""

import errno
import io
import signal
import sys
from typing import Any, NoReturn

import click

from zap.actor import ACTOR, user_of_system
from zap.cli.command import Group
from zap.cli.output import READER_LEFT, drop_output, prepare_output
from zap.errors import OutputFailed, UnusableFile
from zap.standard_error import tell

# The exit code of a command that is interrupted with Ctrl-C, as shells write it.
INTERRUPTED = 128 + signal.SIGINT
# What the system says about a write that a disk has refused. Such an error names no file.
_OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


class Program(Group):
    """The group of all commands. Each end has a sentence and an exit code; only an unexpected error has a traceback."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and exit with its exit code."""
        prepare_output()
        before = ACTOR.set(user_of_system())
        try:
            try:
                code = super().main(*args, **{**extra, "standalone_mode": False})
            except SystemExit as ended:
                code = ended.code
            if sys.stdout is not None:
                sys.stdout.flush()
        except click.ClickException as error:
            shown = io.StringIO()
            error.show(shown)
            tell(shown.getvalue().rstrip(), "error")
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt) as interrupt:
            # The notes of the interrupt say what the command has done.
            notes = getattr(interrupt.__cause__ or interrupt, "__notes__", [])
            tell("; ".join(filter(None, ["Error: the command was interrupted", *notes])), "error")
            code = INTERRUPTED
        except OutputFailed as failed:
            drop_output()
            code = failed.exit_code
            if code != READER_LEFT:
                tell(f"Error: {failed.title}: {failed.message}", "error")
        except OSError as error:
            if error.filename is None and error.errno not in _OF_DISKS:
                raise
            named = f"{error.filename}: " if error.filename else ""
            tell(f"Error: {UnusableFile.title}: {named}{error.strerror}", "error")
            code = UnusableFile.exit_code
        finally:
            ACTOR.reset(before)
        sys.exit(code)
