"""The scopes of keys, and the mark with which a route says which scopes it needs."""

from typing import Any

PREDICT, REPORT, READ, TRAIN, PROMOTE, ERASE, ADMIN = "predict", "report", "read", "train", "promote", "erase", "admin"
# Each scope, and what it allows.
SCOPES = {
    PREDICT: "ask for predictions",
    REPORT: "report sessions",
    READ: "read predictions, drivers, figures, versions and pages",
    TRAIN: "start and cancel trainings, begin and end trials, and see alarms off",
    PROMOTE: "put versions into production",
    ERASE: "export and erase drivers",
    ADMIN: "everything, also keys and the audit",
}
SCOPES_OPT = "scopes"


def needs(*scopes: str) -> dict[str, Any]:
    """Return what a route says in its `opt` if it needs a key with all of these scopes; with none, it needs any key."""
    return {SCOPES_OPT: frozenset(scopes)}
