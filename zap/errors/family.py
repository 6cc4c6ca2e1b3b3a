"""The ground of the errors: each message says what is wrong, which value, and what to do.

Every error knows its form over HTTP (`status_code`, `problem()`) and on the command line (`exit_code`).
"""

import re
from typing import Any, ClassVar

from zap.sentences import phrase


class ZapError(Exception):
    """An error that zap can explain. The message is for the person who sent the request or typed the command."""

    title: ClassVar[str] = phrase("zap could not do this")
    status_code: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def problem(self) -> dict[str, Any]:
        """Return the error as problem details (RFC 9457)."""
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        return {
            "type": f"urn:zap:problem:{kind}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.message,
            **self.details,
        }


class CommandError(ZapError):
    """An error that only commands have. Its problem details have no HTTP status, because it is not sent over HTTP."""

    def problem(self) -> dict[str, Any]:
        """Return the error as problem details (RFC 9457) without `status`."""
        return {name: value for name, value in super().problem().items() if name != "status"}
