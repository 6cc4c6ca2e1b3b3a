"""The scopes of keys, and the mark with which a route says which scopes it needs."""

from typing import Any

from zap.sentences import phrase

PREDICT, REPORT, READ, TRAIN, PROMOTE, ERASE, ADMIN = "predict", "report", "read", "train", "promote", "erase", "admin"
# Each scope, and what it allows.
SCOPES = {
    PREDICT: phrase("ask for predictions"),
    REPORT: phrase("report and remove sessions"),
    READ: phrase("read predictions, drivers, figures, versions and pages"),
    TRAIN: phrase("start and cancel trainings, begin and end trials, acknowledge alarms"),
    PROMOTE: phrase("put versions into production"),
    ERASE: phrase("export and erase drivers"),
    ADMIN: phrase("everything, also keys and the audit"),
}
SCOPES_OPT = "scopes"


def needs(*scopes: str) -> dict[str, Any]:
    """Return what a route says in its `opt` if it needs a key with all of these scopes; with none, it needs any key."""
    return {SCOPES_OPT: frozenset(scopes)}
