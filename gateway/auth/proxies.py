"""Proxies in front of the gateway: which are trusted when they name the client behind them."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

FORWARDED = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED"})
"""The headers in which a proxy names its client, as keys of the environ."""


class Proxies:
    """The networks of trusted proxies. A peer on a unix socket has no address, and is in none of them."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether a proxy at this address is trusted; False for what is no address."""
        if not self._networks:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found  # an IPv4 peer of a socket that serves both
        return any(found in network for network in self._networks)

    def unwrap(self, environ: dict[str, Any]) -> None:
        """Take client and scheme from the headers of trusted proxies, the nearest first; drop those of all others."""
        environ["gateway.forwarded"] = True  # as far as its sender is to be believed
        environ["gateway.peer"] = environ["REMOTE_ADDR"]
        hops = environ.pop("HTTP_X_FORWARDED_FOR", "").split(",")
        scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        for key in FORWARDED:
            environ.pop(key, None)
        if not self.trusts(environ["REMOTE_ADDR"]):
            return
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        while hops and self.trusts(environ["REMOTE_ADDR"]):
            hop = hops.pop().strip()
            try:
                environ["REMOTE_ADDR"] = str(ip_address(hop))
            except ValueError:
                return
