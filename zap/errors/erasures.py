"""Errors of the erasure of drivers."""

from zap.errors.family import ZapError
from zap.sentences import phrase


class FollowerBehind(ZapError):
    """The follower has not read all answers, so nobody knows yet which are the driver's. Nothing was changed."""

    title = phrase("The follower is behind")
    status_code = 503
    exit_code = 52


class NoErasureKey(ZapError):
    """The key with which earlier erasures were noted is missing or differs. Nothing was changed."""

    title = phrase("The key of erasures is missing")
    status_code = 503
    exit_code = 51
