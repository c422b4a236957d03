"""Asks a running node for something: over its listener for operators, or at a URL as whoever has a key."""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

SPARE = 10.0
"""Seconds in which an answer has to come, on top of those that the node was asked to wait for."""


class NotDone(Exception):
    """The node refused, failed or could not be asked; the message says why."""


class NotDoneYet(NotDone):
    """The node began what it was asked for, and had not finished when the time was over."""


class Target(NamedTuple):
    """Who is asked."""

    address: str
    """A URL, or an address in the form of ``[server] bind``."""
    called: str
    """What it is called in messages."""
    key: str = ""
    """A key or token, where it asks for one."""


class _Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    target: Target,
    method: str,
    path: str,
    *,
    form: Sequence[tuple[str, str]] = (),
    told: Mapping[str, str] | None = None,
    wait: float = 0.0,
) -> dict[str, Any]:
    """Send a request, with a form, with ``told`` as JSON, or without a body; return the answer's JSON, or nothing.

    ``wait``: seconds that the node may take. Raises NotDone, and NotDoneYet where the node answers that its time was
    over.
    """
    connection, root = _connection(target.address, wait + SPARE)
    content = urlencode(form).encode() if told is None else json.dumps(told).encode()
    headers = {"Content-Length": str(len(content))}
    if content:
        headers["Content-Type"] = "application/x-www-form-urlencoded" if told is None else "application/json"
    if target.key:
        headers["Authorization"] = f"Bearer {target.key}"
    try:
        connection.request(method, root + path, body=content, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        body: dict[str, Any] = json.loads(text) if text else {}
    except TimeoutError:
        raise NotDoneYet(f"{target.called} has not answered for {wait + SPARE:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotDone(f"{target.called} cannot be asked at {target.address}: {said}") from error
    finally:
        connection.close()
    if answer.status < HTTPStatus.BAD_REQUEST:
        return body
    if "code" not in body:
        raise NotDone(f"{target.called}: {answer.status} {answer.reason}: not an answer of a gateway")
    if answer.status == HTTPStatus.GATEWAY_TIMEOUT:
        raise NotDoneYet(body["detail"])
    each = [fault["message"] for fault in body["errors"]]
    detail = body["detail"]
    if body["code"] == "not_found" and not detail and "://" in target.address:
        detail = f"{target.called} offers that to operators only where [auth] mode is set, or on its admin_bind"
    raise NotDone("\n".join([*each, detail or body["title"]]))


def _connection(address: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection, not opened, and what stands in front of all paths."""
    if address.startswith("unix:"):
        return _Local(address.removeprefix("unix:"), timeout), ""
    url = urlsplit(address if "://" in address else f"http://{address}")
    made = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return made(url.netloc, timeout=timeout), url.path.rstrip("/")
