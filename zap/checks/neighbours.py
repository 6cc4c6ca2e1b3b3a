"""The network around zap: its own address, and the receiver of alarms."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from zap.checks.finding import Finding
from zap.errors import CannotServe
from zap.server.address import check_address
from zap.settings import Settings

_PATIENCE_SECONDS = 3.0
_EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is asked instead of every address


def look_at_address(settings: Settings) -> Iterator[Finding]:
    """Yield whether zap cannot listen on its address. If a zap listens there already, that is only a note."""
    try:
        check_address(settings)
    except CannotServe as error:
        place = f"{settings.host}, port {settings.port}"
        if (version := _serving(settings)) is not None:
            message = f"zap {version} answers at {place} already"
            hint = "if this is the server that you mean, all is well; otherwise choose another port"
            yield Finding("already-serving", "ZAP_PORT", str(settings.port), message, hint)
            return
        message, _, hint = error.message.rpartition("; ")
        setting = "ZAP_HOST, ZAP_PORT"
        if "ZAP_METRICS_PORT" in hint:
            setting, place = (
                "ZAP_METRICS_HOST, ZAP_METRICS_PORT",
                f"{settings.metrics_host}, port {settings.metrics_port}",
            )
        yield Finding("address-unusable", setting, place, message, hint)


def look_at_receiver(settings: Settings) -> Iterator[Finding]:
    """Yield whether nobody gets the alarms. Nothing is sent: `zap alarms test` sends a message."""
    if settings.alarm_url is None:
        message = "nobody is told about alarms: they are only in the log, on the pages and in `zap alarms`"
        yield Finding("no-alarm-url", "ZAP_ALARM_URL", "", message, "set ZAP_ALARM_URL and ZAP_ALARM_SECRET")
        return
    url = urlsplit(settings.alarm_url)
    host, port = str(url.hostname), url.port or (443 if url.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), _PATIENCE_SECONDS) as connection:
            if url.scheme == "https":
                ssl.create_default_context().wrap_socket(connection, server_hostname=host).close()
    except OSError as error:
        yield Finding(
            "alarm-receiver",
            "ZAP_ALARM_URL",
            # The path and the query may have a secret.
            f"{url.scheme}://{host}:{port}",
            f"the receiver of alarms at {host}, port {port} cannot be reached ({error})",
            "start the receiver, open the way to it, or correct ZAP_ALARM_URL; then try `zap alarms test`",
        )


def _serving(settings: Settings) -> str | None:
    """Return the version of the zap that answers at the address of these settings; None if none does."""
    host = _EVERY.get(settings.host, settings.host)
    asked = http.client.HTTPConnection(host, settings.port, timeout=_PATIENCE_SECONDS)
    with closing(asked):
        try:
            asked.request("GET", "/health/live", headers={"Host": "localhost"})
            reply = asked.getresponse()
            found = json.loads(reply.read(1000)) if reply.status == http.HTTPStatus.OK else {}
        except (OSError, http.client.HTTPException, ValueError):
            return None
    alive = isinstance(found, dict) and found.get("status") == "alive"
    return str(found.get("version")) if alive else None
