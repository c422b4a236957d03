"""Asks a running node for something, over its listener for operators."""

import http.client
import json
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from gateway.server.registry import Node

SPARE = 10.0
"""Seconds in which an answer has to come, on top of those that the node was asked to wait for."""


class NotDone(Exception):
    """The node refused, failed or could not be asked; the message says why."""


class NotDoneYet(NotDone):
    """The node began what it was asked for, and had not finished when the time was over."""


class _Connection(http.client.HTTPConnection):
    """HTTP to an address in the form of ``[server] bind``."""

    def __init__(self, address: str, timeout: float) -> None:
        self._path = address.removeprefix("unix:") if address.startswith("unix:") else None
        super().__init__("localhost" if self._path else address, timeout=timeout)

    def connect(self) -> None:
        """Connect to the unix socket, or by TCP."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    node: Node, method: str, path: str, *, form: Sequence[tuple[str, str]] = (), wait: float = 0.0
) -> dict[str, Any]:
    """Send a request, with a form or without a body, and return the answer's JSON, empty where there is none.

    ``wait``: seconds that the node may take. Raises NotDone, and NotDoneYet where the node answers that its time was
    over.
    """
    connection = _Connection(node.admin, wait + SPARE)
    content = urlencode(form).encode()
    headers = {"Content-Length": str(len(content))}
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body=content, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        body: dict[str, Any] = json.loads(text) if text else {}
    except TimeoutError:
        raise NotDoneYet(f"the gateway with process {node.pid} has not answered for {wait + SPARE:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotDone(f"the gateway with process {node.pid} cannot be asked at {node.admin}: {said}") from error
    finally:
        connection.close()
    if answer.status == HTTPStatus.GATEWAY_TIMEOUT:
        raise NotDoneYet(body["detail"])
    if answer.status >= HTTPStatus.BAD_REQUEST:
        each = [fault["message"] for fault in body["errors"]]
        raise NotDone("\n".join([*each, body["detail"] or body["title"]]))
    return body


def post(node: Node, path: str, *, wait: float) -> dict[str, Any]:
    """Send a POST request without a body; see ``ask``."""
    return ask(node, "POST", path, wait=wait)
