"""Can the addresses be listened on? Asked before anything starts, so that every one that cannot is named at once."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.faults import Fault

LONGEST_PATH = 107
"""Bytes of a unix socket's path (unix(7))."""


def faults_of(binds: Iterable[str], *, key: str = "server.bind", reuse_port: bool = False) -> Iterator[Fault]:
    """Name every address (in the form of ``[server] bind``) that cannot be listened on now.

    With ``reuse_port`` others may listen on a port, if they do so with SO_REUSEPORT too.
    """
    for bind in binds:
        message = unix_fault(bind.removeprefix("unix:")) if bind.startswith("unix:") else _tcp_fault(bind, reuse_port)
        if message:
            yield Fault(f"{key} {bind}", 0, message)


def _tcp_fault(bind: str, reuse_port: bool) -> str | None:
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
        try:
            probe.bind((host.strip("[]"), int(port)))
        except socket.gaierror:
            return "the host name is not known here"
        except OSError as error:
            return sentence_of(error)
    return None


def unix_fault(path: str) -> str | None:
    """Say what keeps a unix socket from being made; a socket file nobody listens on does not, it is replaced."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"a unix socket's path has at most {LONGEST_PATH} bytes"
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return "there is a file of that name which is no socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                pass
            except OSError as error:
                return sentence_of(error)
            else:
                return "another server is listening there"
    if not os.access(Path(path).parent, os.W_OK | os.X_OK):
        return f"{Path(path).parent} does not exist or cannot be written to"
    return None


def sentence_of(error: OSError) -> str:
    """Say why an address could not be bound or connected to."""
    match error:
        case PermissionError():
            return "this user may not listen there (ports below 1024 need a privilege)"
        case OSError(errno=errno.EADDRINUSE):
            return "the address is in use; is another server, or another gateway, running there?"
        case _:
            return str(error.strerror)
