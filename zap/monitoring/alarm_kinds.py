"""The kinds of alarms in words: what each kind means, and what to do about it."""

from typing import NamedTuple


class AlarmKind(NamedTuple):
    """A kind of alarm in plain sentences, for messages and the manual.

    Attributes:
        meaning: what is wrong.
        advice: what to do about it.
    """

    meaning: str
    advice: str


KINDS = {
    "harm": AlarmKind(
        "The version in production answers worse than its test promised, or worse than its best baseline.",
        "Look at GET /quality to see since when; roll back with `zap models rollback`, or train a new version.",
    ),
    "drift": AlarmKind(
        "The values of requests, or the answers, are not spread as they were among the drivers of the training.",
        "Look at both distributions; the season may be the cause; if the change will stay, train a new version.",
    ),
    "no_outcomes": AlarmKind(
        "Drivers ask, but for a longer time than usual zap has found no session for their requests.",
        "Check that the backend still sends POST /charging-sessions, or that the import of sessions still runs.",
    ),
    "refused_requests": AlarmKind(
        "A larger share of the requests is refused than on usual days.",
        "Look for the events `refused` in the log: they name the fields; often a new release of a client is the cause.",
    ),
    "follower_behind": AlarmKind(
        "The follower is more than a minute behind the newest answer, so outcomes, quality and alarms are late.",
        "Look for errors of the follower in the log, and for a machine or a database that has too much to do.",
    ),
    "log_slow": AlarmKind(
        "A commit of the log takes longer than a second, so each prediction takes longer too.",
        "Look for a slow disk, and for a program that keeps the database locked, such as a backup or an import.",
    ),
    "version_refused": AlarmKind(
        "The version in production cannot be loaded, so servers answer with an earlier version, or not at all.",
        "Roll back with `zap models rollback`, promote another version, or train a new one.",
    ),
    "training_failed": AlarmKind(
        "The newest training ended with an error, so there is no new version.",
        "Read the reason in GET /training-runs, and train again; the alarm ends with the next training that finishes.",
    ),
    "disk_nearly_full": AlarmKind(
        "A disk of zap has little room left; without room, zap cannot store requests and refuses them.",
        "Make room, or move the file to a larger disk; `zap predictions prune` removes predictions of trainings.",
    ),
}


def advice_for(kind: str) -> str:
    """Return what to do about an alarm; an empty text for a kind of a newer zap."""
    return KINDS[kind].advice if kind in KINDS else ""
