"""The host names in requests: whether a Host header names this server, and whether a page comes from a host."""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import ip_address

# The longest Host header that is looked at: a name has at most 253 characters, and a port 5.
LONGEST_HOST = 300
_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(:[0-9]*)?", re.ASCII)


def host_check(names: Collection[str]) -> Callable[[bytes], bool]:
    """Return a function that says whether a Host header has one of the names, or an IP address.

    Args:
        names: the host names of the server. `*` allows all names, and `*.example.com` the names below example.com.
    """

    @lru_cache(1024)
    def is_known(host: bytes) -> bool:
        name = _name(host)
        if "*" in names or name in names or _is_address(name):
            return True
        return any(one.startswith("*.") and name.endswith(one[1:]) for one in names)

    return is_known


def _name(host: bytes) -> str:
    """Return the name in a Host header, in small letters and without the port; an empty text if the header is wrong."""
    found = _HOST.fullmatch(host.decode("latin-1").lower())
    if not found:
        return ""
    return found["address"] or found["name"].rstrip(".")


def _is_address(name: str) -> bool:
    """Return whether a name is an IP address.

    Addresses are always allowed: a DNS rebinding attack needs a host name, which its owner can point at any address.
    """
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_same(origin: bytes, host: bytes | None) -> bool:
    """Return whether the origin of a page, such as `https://example.com`, has this host and port."""
    scheme, _, rest = origin.lower().partition(b"://")
    port = {b"http": b":80", b"https": b":443"}.get(scheme, b"")
    return host is not None and rest.removesuffix(port) == host.lower().removesuffix(port) != b""
