"""The checks of ZAP_ALARM_URL and ZAP_ALARM_SECRET: signed messages, over https or to this machine."""

import base64
import binascii
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr, ValidationInfo

# The fewest and the most bytes of the secret of Standard Webhooks.
_SECRET_BYTES = range(24, 65)


def usable_secret(value: SecretStr | None) -> SecretStr | None:
    """Check the secret that signs messages about alarms.

    Raises:
        ValueError: it is not `whsec_` and 24 to 64 bytes in base64.
    """
    if value is not None:
        prefix, _, key = value.get_secret_value().partition("_")
        try:
            size = len(base64.b64decode(key, validate=True)) if prefix == "whsec" else 0
        except binascii.Error:
            size = 0
        if size not in _SECRET_BYTES:
            raise ValueError("is not whsec_ and 24 to 64 bytes in base64; write whsec_ and `openssl rand -base64 32`")
    return value


def safe_receiver(value: str | None, info: ValidationInfo) -> str | None:
    """Check the address to which alarms are posted. Messages do not show it, because it may hold a password.

    Raises:
        ValueError: others could read the messages, or there is no secret to sign them.
    """
    if value is None:
        return None
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("is not a URL; write one such as https://alarms.example.com/zap") from None
    if url.scheme not in {"http", "https"} or not url.hostname or not value.isascii() or not value.isprintable():
        raise ValueError("is not a URL of https; write one such as https://alarms.example.com/zap")
    if " " in value or url.fragment or url.username is not None:
        raise ValueError("has a space, a fragment (#), or the name of a user; write a URL without them")
    if url.scheme == "http" and not _is_loopback(url):
        raise ValueError("begins with http://, so others could read and change the messages; write https://")
    if info.data.get("alarm_secret", ...) is None:
        raise ValueError("needs ZAP_ALARM_SECRET; write whsec_ and `openssl rand -base64 32`")
    return value


def _is_loopback(url: SplitResult) -> bool:
    """Return whether the host of a URL is this machine. A name other than localhost may lead to any address."""
    try:
        return url.hostname == "localhost" or ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False
