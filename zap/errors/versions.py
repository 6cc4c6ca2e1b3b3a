"""Errors of model versions."""

from zap.errors.family import CommandError, ZapError
from zap.sentences import phrase


class NoModel(ZapError):
    """No model version is in production yet."""

    title = phrase("There is no model yet")
    status_code = 503
    exit_code = 12


class DamagedModel(ZapError):
    """The bytes of a model version differ from the bytes that were stored, or this code cannot use them."""

    title = phrase("The stored model cannot be used")
    status_code = 503
    exit_code = 13


class NotPromotable(ZapError):
    """A version cannot serve, or there is no version to roll back to. The version in production is unchanged."""

    title = phrase("The version cannot be put into production")
    status_code = 409
    exit_code = 24


class TrialRefused(ZapError):
    """A trial of a version cannot begin. Nothing was changed."""

    title = phrase("The trial cannot begin")
    status_code = 409
    exit_code = 33


class NotReproduced(CommandError):
    """A stored prediction, or the trees of a stored version, could not be reproduced."""

    title = "The stored result could not be reproduced"
    exit_code = 21
