"""The actor of a change: a key over HTTP, a person on the command line, or zap by itself."""

import getpass
from contextvars import ContextVar
from typing import NamedTuple


class Actor(NamedTuple):
    """The person or program that makes a change.

    Attributes:
        name: the name of the key, or of the system user who typed a command.
        origin: the network address of the client, `command line`, or `server` if nobody has asked for the change.
    """

    name: str
    origin: str


COMMAND_LINE = "command line"
# What zap does by itself, such as a training after some days.
ZAP = Actor("zap", "server")
# The actor of the request or the command that is going on. A pool of threads passes it on to its work.
ACTOR: ContextVar[Actor] = ContextVar("actor", default=ZAP)


def user_of_system() -> Actor:
    """Return the system user as an actor, for a command."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        # A container may run with a number that has no name.
        name = "unknown user"
    return Actor(name, COMMAND_LINE)
