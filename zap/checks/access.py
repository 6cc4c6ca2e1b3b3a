"""The access to zap: keys, host names, proxies, and pages of other origins."""

from collections.abc import Iterator

from zap.checks.finding import Finding
from zap.settings import Settings

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A key with fewer different characters was hardly made at random: `openssl rand -hex 16` makes one in a billion at
# most.
_FEWEST_CHARACTERS = 6
# The key in the examples of the manual.
_OF_THE_MANUAL = "write-the-result-of-openssl-rand-hex-16"
# A network with a shorter prefix has more addresses than any network of one owner: 10.0.0.0/8, fc00::/7.
_SHORTEST_PREFIX = {4: 8, 6: 7}


def look_at_access(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the access to a server of these settings, apart from who needs a key."""
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    if key is not None and (len(set(key)) < _FEWEST_CHARACTERS or key == _OF_THE_MANUAL):
        yield Finding(
            "key-guessable",
            "ZAP_API_KEY",
            "(not shown)",
            f"the key has fewer than {_FEWEST_CHARACTERS} different characters, or it is the example of the manual, so"
            " others can guess it",
            "make a key with `openssl rand -hex 16`",
        )
    if settings.metrics_port is not None and settings.metrics_host not in _LOOPBACK:
        yield Finding(
            "metrics-open",
            "ZAP_METRICS_HOST",
            settings.metrics_host,
            f"other machines can reach {settings.metrics_host}, port {settings.metrics_port}, and whoever reaches it"
            " reads the metrics without a key",
            "let only your Prometheus through to this port, or let it ask GET /metrics with a key of the scope read",
        )
    if not settings.allowed_hosts and (settings.trusted_proxies or settings.root_path):
        yield Finding(
            "no-host-names",
            "ZAP_ALLOWED_HOSTS",
            "",
            "zap is behind a proxy, and refuses (421) requests whose host is a name",
            "write the name that clients use into ZAP_ALLOWED_HOSTS",
        )
    for network in settings.trusted_networks:
        if network.prefixlen < _SHORTEST_PREFIX[network.version]:
            yield Finding(
                "proxies-too-wide",
                "ZAP_TRUSTED_PROXIES",
                str(network),
                f"zap believes all addresses of {network} which client, host and scheme a request has, so any client in"
                " it can pretend to be another one",
                "name only the addresses of your proxies in ZAP_TRUSTED_PROXIES",
            )
    for origin in sorted(settings.allowed_origins):
        if origin.startswith("http://") and not _is_own_machine(origin.removeprefix("http://")):
            yield Finding(
                "origin-unencrypted",
                "ZAP_CORS_ORIGINS",
                origin,
                f"pages of {origin} may send requests to zap, and anybody in the network can change these pages",
                "use https for them, and write https:// in ZAP_CORS_ORIGINS",
            )


def look_at_keys(settings: Settings, *, is_closed: bool) -> Iterator[Finding]:
    """Yield what is wrong with who needs a key.

    Args:
        settings: of the server.
        is_closed: whether clients need a key: ZAP_API_KEY, or one that is in the database.
    """
    is_reached = settings.host not in _LOOPBACK
    is_behind = bool(settings.trusted_proxies or settings.root_path or settings.allowed_hosts)
    if is_closed:
        if is_reached and not settings.trusted_proxies:
            yield Finding(
                "key-unencrypted",
                "ZAP_HOST",
                settings.host,
                "zap speaks http, so a client that reaches zap without a proxy sends its key unencrypted",
                "put a proxy with https in front of zap, and name it in ZAP_TRUSTED_PROXIES",
            )
        return
    if is_reached or is_behind:
        who = "other machines can reach" if is_reached else "clients of a proxy can reach"
        yield Finding(
            "no-key",
            "ZAP_API_KEY",
            "",
            f"{who} {settings.host}, and there is no key (ZAP_API_KEY is not set, and the database has none), so any"
            " client that reaches zap can train and predict",
            "make keys with `zap keys create`, or set ZAP_API_KEY" + (", or use --host 127.0.0.1" * is_reached),
        )
    if "*" in settings.host_names:
        yield Finding(
            "any-host-name",
            "ZAP_ALLOWED_HOSTS",
            "*",
            "without a key, pages of any site can read zap's replies in a visitor's browser (DNS rebinding)",
            "name the hosts in ZAP_ALLOWED_HOSTS, or make a key",
        )


def _is_own_machine(host: str) -> bool:
    return host.partition(":")[0] in _LOOPBACK or host.startswith("[::1]")
