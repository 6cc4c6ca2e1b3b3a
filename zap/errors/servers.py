"""Errors of a server that cannot answer now, or cannot start."""

from zap.errors.family import CommandError, ZapError
from zap.sentences import phrase


class CannotServe(CommandError):
    """The server cannot listen on its address and port."""

    title = "The server cannot start"
    exit_code = 3


class TooBusy(ZapError):
    """The request would have to wait too long for requests before it. The client can send it again later."""

    title = phrase("The server is busy")
    status_code = 503
    exit_code = 25


class ServerStopping(ZapError):
    """The server was told to stop: the request did not end within the last seconds, or would begin a training."""

    title = phrase("The server is stopping")
    status_code = 503
