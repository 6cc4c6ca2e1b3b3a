"""A finding of a check: what is wrong, which value, and what to do."""

from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]

# The ids of all findings, which the manual explains. An error: zap cannot serve or predict, or it may lose answers. A
# warning: zap works, but less safely, less well or not for long. A note: it is good to know.
SEVERITIES: dict[str, Severity] = {
    "setting-unusable": "error",
    "variable-unknown": "warning",
    "service-link": "warning",
    "no-key": "warning",
    "key-guessable": "warning",
    "key-unencrypted": "note",
    "metrics-open": "note",
    "any-host-name": "warning",
    "no-host-names": "warning",
    "proxies-too-wide": "warning",
    "origin-unencrypted": "warning",
    "time-zone-utc": "warning",
    "too-many-workers": "warning",
    "training-memory": "warning",
    "too-few-files": "warning",
    "log-debug": "note",
    "synchronous-normal": "warning",
    "network-file-system": "error",
    "folder-not-kept": "warning",
    "database-readable": "warning",
    "disk-nearly-full": "warning",
    "models-folder": "warning",
    "models-folder-open": "warning",
    "database-new": "note",
    "database-unavailable": "error",
    "database-behind": "warning",
    "database-ahead": "error",
    "database-differs": "warning",
    "database-rights": "error",
    "database-not-writable": "error",
    "erased-are-back": "warning",
    "database-clock": "warning",
    "database-connections": "warning",
    "database-unencrypted": "warning",
    "no-model": "warning",
    "model-unusable": "error",
    "lightgbm-missing": "error",
    "read-database-wrong": "error",
    "read-database-unused": "warning",
    "nothing-removed": "note",
    "file-keeps-size": "note",
    "address-unusable": "error",
    "already-serving": "note",
    "no-alarm-url": "note",
    "alarm-receiver": "warning",
}


class Finding(NamedTuple):
    """A finding of a check.

    Attributes:
        id: one of SEVERITIES.
        setting: the variable that it is about; `` if it is about none.
        value: the value that was found, without secrets.
        message: what is wrong, and what follows.
        hint: what to do.
    """

    id: str
    setting: str
    value: str
    message: str
    hint: str

    @property
    def severity(self) -> Severity:
        """Return how bad it is."""
        return SEVERITIES[self.id]

    @property
    def sentence(self) -> str:
        """Return the finding in one line, for the log."""
        return f"{self.message}: {self.hint} ({self.id})"

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return {"id": self.id, "severity": self.severity, **self._asdict()}
