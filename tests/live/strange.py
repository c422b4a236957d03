"""An application that does what the gateway's own does not (or not yet): streams, blocks the loop, fails, waits.

``python -m tests.live.strange ADDRESS FOLDER SETTINGS`` serves it with event-loop workers; SETTINGS is the JSON of
``[server]``. No PostgreSQL is needed.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from gateway.events import Observer
from gateway.server import options
from gateway.server.application import serve
from gateway.server.artefact import Compiled, write
from gateway.server.runtime import Runtime
from gateway.settings import ServerSettings, Settings
from tests.live.workers import PATIENCE, Node, environment, wait_until


class Pieces:
    """A stream: so many pieces of so many bytes; ``fail`` raises instead of the last."""

    closed = 0

    def __init__(self, count: int, size: int, *, fail: bool) -> None:
        self._left = count
        self._size = size
        self._fail = fail

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left == 0:
            raise StopIteration
        self._left -= 1
        if self._left == 0 and self._fail:
            raise RuntimeError("the stream breaks off")
        return b"x" * self._size

    def close(self) -> None:
        """WSGI servers call this in any case."""
        Pieces.closed += 1


class Strange:
    """The application, and what it runs beside requests: nothing but a wait for the end."""

    def __init__(self, observe: Observer) -> None:
        self.observe = observe
        self._ended = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer by the path; ``/until-the-end`` when it is closed."""
        if environ["PATH_INFO"] != "/until-the-end":
            return application(environ, start_response)
        self._ended.wait()
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ended"]

    def close(self) -> None:
        """Wake up who waits for that."""
        print(f"{os.getpid()} was closed", file=sys.stderr)
        self._ended.set()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answers by the path."""
    asked = dict(parse_qsl(environ["QUERY_STRING"]))
    headers = [("Content-Type", "text/plain")]
    match environ["PATH_INFO"]:
        case "/stream":
            start_response("200 OK", headers)
            return Pieces(int(asked["count"]), int(asked["size"]), fail="fail" in asked)
        case "/closed":
            content = str(Pieces.closed).encode()
        case "/big":
            content = b"x" * int(asked["size"])
        case "/sleep":
            time.sleep(float(asked["seconds"]))  # gevent's: other requests go on
            content = b"slept"
        case "/block":
            until = time.monotonic() + float(asked["seconds"])
            while time.monotonic() < until:
                pass
            content = b"blocked"
        case "/raise":
            raise RuntimeError("a bug")
        case "/exit":
            raise SystemExit(3)
        case "/header":
            headers.append(("X-Evil", "a\r\nX-Injected: b"))
            content = b""
        case "/client":
            content = f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']}".encode()
        case "/operator":
            content = str(environ.get("gateway.admin")).encode()
        case "/worker":
            content = str(os.getpid()).encode()
        case "/health/ready":
            content = b"ready"
        case _:
            content = environ["wsgi.input"].read()
    start_response("200 OK", headers)
    return [content]


def start(folder: Path, *, umask: int = -1, descriptors: int = 0, stderr: int | None = None, **server: Any) -> Node:
    """Start a node of this application; ``server`` as in ``[server]``, in seconds and bytes.

    It is reached by the first of its addresses. ``descriptors``: as many as its processes may have. ``stderr``: where
    it logs to, if not to ``gateway.log``.
    """
    address = server.get("bind", [f"127.0.0.1:{find_port()}"])[0]
    limit = ["prlimit", f"--nofile={descriptors}"] if descriptors else []
    folder.mkdir(exist_ok=True)
    log = folder / "gateway.log"
    settings = {"workers": 1, **server}
    with log.open("ab") as output:
        program = subprocess.Popen(  # noqa: S603 - our own words
            [*limit, sys.executable, "-m", "tests.live.strange", address, str(folder), json.dumps(settings)],
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT if stderr is None else stderr,
            start_new_session=True,
            umask=umask,
        )
    return Node(program, address=address, log=log, context=None)


@contextmanager
def serving(folder: Path, *, umask: int = -1, descriptors: int = 0, **server: Any) -> Iterator[Node]:
    """A node of this application that has come up; it ends with the ``with``. Arguments as of ``start``."""
    node = start(folder, umask=umask, descriptors=descriptors, **server)
    program, log = node.program, folder / "gateway.log"
    try:
        wait_until(lambda: node.is_ready() or program.poll() is not None, "ready", PATIENCE)
        yield node
    except BaseException:
        print(f"--- {log}\n{tail(log)}")
        raise
    finally:
        node.close()


def main(address: str, folder: str, settings: str) -> None:
    """Serve until told to stop."""
    server = msgspec.convert({"bind": [address], **json.loads(settings)}, ServerSettings)
    compiled = Compiled.of(Settings(server=server), Catalogue({}, "hash"))
    write(Path(folder), compiled)
    options.GRACE = 3  # of 30 seconds nobody wants to wait for the end
    serve(Runtime(Path(folder), lock=-1, is_private=False), lambda *given: Strange(given[-1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
