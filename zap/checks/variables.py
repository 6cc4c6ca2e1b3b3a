"""Variables ZAP_* that have no effect."""

from collections.abc import Iterator

from zap.checks.finding import Finding
from zap.settings import service_link
from zap.variables import unknown_variables


def look_at_variables() -> Iterator[Finding]:
    """Yield the variables that zap ignores. Their values may be secrets, and are not shown."""
    for one in unknown_variables():
        yield Finding("variable-unknown", one.name, "(not shown)", one.message, one.hint)
    if (link := service_link()) is not None:
        yield Finding(
            "service-link",
            "ZAP_PORT",
            link,
            f"ZAP_PORT is {link!r}. Kubernetes sets it for a Service with the name zap (a service link), so zap ignores"
            " it",
            "write enableServiceLinks: false into the pod's spec; to choose a port, set ZAP_PORT there, or use --port",
        )
