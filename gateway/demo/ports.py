"""TCP ports on the loopback address, below the range that the kernel gives to outgoing connections."""

import random
import socket

from gateway.demo.failures import ClusterError

_LOWEST, _HIGHEST = 10_000, 32_767
_ATTEMPTS = 200


def reserve_port() -> socket.socket:
    """A socket bound to a free port: as long as it is open, only who sets SO_REUSEADDR can listen there.

    NOTE: Servers set it, this function binds without it: so a server may start, die and start again, and no other
    reservation gets between. Nobody listens on the socket itself: while the server is down, connects are refused.
    """
    for _ in range(_ATTEMPTS):
        reservation = socket.socket()
        try:
            reservation.bind(("127.0.0.1", random.randint(_LOWEST, _HIGHEST)))  # noqa: S311 -- no secret
        except OSError:
            reservation.close()
            continue
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return reservation
    raise ClusterError(f"no free port between {_LOWEST} and {_HIGHEST}")


def find_port() -> int:
    """A port that is free now."""
    with reserve_port() as reservation:
        return port_of(reservation)


def port_of(bound: socket.socket) -> int:
    """The port a socket is bound to."""
    port: int = bound.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this port."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
