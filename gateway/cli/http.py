"""A gateway's HTTP, for commands."""

import json
import os
from decimal import Decimal
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

LONGEST = 60.0
"""Seconds without a byte after which an answer is given up."""


class Refused(Exception):
    """The gateway refused, failed or could not be asked; the message says why."""

    def __init__(self, message: str, outcome: str | None = None) -> None:
        """``outcome``: what became of a write, as far as it is known."""
        super().__init__(message)
        self.outcome = outcome


class Answer(NamedTuple):
    """What the gateway answered."""

    text: bytes
    body: Any
    """The JSON in it; numbers with a fraction are Decimal."""


class Site:
    """One gateway, asked with the key or token in GATEWAY_KEY if there is one."""

    def __init__(self, url: str, *, longest: float = LONGEST) -> None:
        self._url = url.rstrip("/")
        self._longest = longest
        # Without a proxy: the gateway's address is its own.
        self._open = build_opener(ProxyHandler({})).open

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send a request and return the answer; raises Refused."""
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if key := os.environ.get("GATEWAY_KEY"):
            sent["Authorization"] = f"Bearer {key}"
        outcome = None if body is None else "unknown"  # until it is told, once a write may have been sent
        try:
            request = Request(self._url + path, data=body, headers=sent, method=method)  # noqa: S310 -- as given
            with self._open(request, timeout=self._longest) as answer:
                text = answer.read()
            return Answer(text, json.loads(text, parse_float=Decimal))
        except HTTPError as error:
            raise _told(error, outcome) from None
        except ConnectionRefusedError as error:
            raise Refused(f"no gateway answers at {self._url}: {error.strerror}") from None
        except (OSError, HTTPException, ValueError) as error:
            refused = "refused" in str(error).lower()
            said = getattr(error, "reason", None) or error
            raise Refused(f"the gateway at {self._url} cannot be asked: {said}", None if refused else outcome) from None


def _told(error: HTTPError, outcome: str | None) -> Refused:
    """Return what a problem says; ``outcome``: of a write, where the answer breaks off before it tells that."""
    try:
        problem = json.loads(error.read())
        faults = [f"{fault['parameter'] or ''}: {fault['message']}".lstrip(": ") for fault in problem["errors"]]
        lines = [f"{problem['title']} ({problem['code']})", problem["detail"], *faults]
        if problem["transaction"]:
            lines.append(f"GET /outcome/{problem['transaction']} may tell what became of it")
        return Refused("\n".join(line for line in lines if line), problem["outcome"])
    except (OSError, HTTPException) as broken:
        return Refused(f"{error.code} {error.reason}: the answer broke off: {broken or type(broken).__name__}", outcome)
    except (ValueError, KeyError, TypeError):
        return Refused(f"{error.code} {error.reason}: not an answer of the gateway")
