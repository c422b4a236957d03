"""Network namespaces: nodes on machines of their own, as far as their network is concerned."""

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.test_deploy import find_program

ABSENT = "02:00:00:00:00:01"
"""A hardware address that no machine has."""
_A, _IN, _NAME_ERROR = 1, 1, 3
_LIVE_FOR = 1  # second, until a name is asked for again


class Namespace:
    """A machine with one cable to ours, on which addresses of ours are reached."""

    def __init__(self, name: str, network: str, hosts: Sequence[int]) -> None:
        """``network``: the first three numbers of its addresses; ours end with 1 and with each of ``hosts``."""
        self.name = name
        self.address = f"{network}.2"
        self.gateway = f"{network}.1"
        self.hosts = [f"{network}.{host}" for host in hosts]

    def command(self, *words: str) -> list[str]:
        """What runs a program there."""
        return [_ip(), "netns", "exec", self.name, *words]

    def cut_off(self, host: str) -> None:
        """Nothing that is sent to this address of ours arrives any more, and nobody says so."""
        run("-n", self.name, "neigh", "replace", host, "lladdr", ABSENT, "dev", "eth0", "nud", "permanent")

    def mend(self, host: str) -> None:
        """It arrives again."""
        run("-n", self.name, "neigh", "del", host, "dev", "eth0")


@contextmanager
def namespace(name: str, network: str, hosts: Sequence[int]) -> Iterator[Namespace]:
    """One machine; its names are looked up at ours. Only root may make it."""
    made = Namespace(name, network, hosts)
    ours = f"{name}-o"
    resolver = Path("/etc/netns") / name / "resolv.conf"
    try:
        run("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        resolver.parent.mkdir(parents=True)
        resolver.write_text(f"nameserver {made.gateway}\noptions timeout:1 attempts:2\n")
        run("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        for address in (made.gateway, *made.hosts):
            run("addr", "add", f"{address}/24", "dev", ours)
        run("link", "set", ours, "up")
        run("-n", name, "addr", "add", f"{made.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("-n", name, "link", "set", device, "up")
        yield made
    finally:
        run("netns", "del", name)
        resolver.unlink(missing_ok=True)
        for folder in (resolver.parent, resolver.parent.parent):
            with suppress(OSError):
                folder.rmdir()


def run(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run([_ip(), *words], check=True, capture_output=True, text=True)  # noqa: S603 -- our own words


def _ip() -> str:
    places = (Path("/usr/sbin/ip"), Path("/sbin/ip"))  # not in everybody's path
    found = next((str(path) for path in places if path.exists()), None)
    return found or find_program("ip", "on Debian and Ubuntu, apt-get install iproute2")


class NameServer:
    """Answers for one name, over UDP, with the addresses that a test gives it; any other name is not known."""

    def __init__(self, name: str, address: str) -> None:
        self.addresses: Sequence[str] = ()
        self._name = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                query, client = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """The question again, and a record for each address (RFC 1035)."""
        end = query.index(b"\0", 12) + 5
        kind, of_internet = struct.unpack("!HH", query[end - 4 : end])
        is_known = query[12 : end - 4].lower() == self._name
        addresses = self.addresses if is_known and (kind, of_internet) == (_A, _IN) else ()
        flags = 0x8580 | (0 if is_known else _NAME_ERROR)
        head = query[:2] + struct.pack("!5H", flags, 1, len(addresses), 0, 0)
        front = b"\xc0\x0c" + struct.pack("!HHIH", _A, _IN, _LIVE_FOR, 4)
        records = b"".join(front + socket.inet_aton(address) for address in addresses)
        return head + query[12:end] + records
