"""Client certificates to callers: by the names in one, or by those that a trusted proxy says it has seen.

A name is a URI, a DNS name or the common name, looked for in that order; ``[auth.certificates]`` says which are known.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.auth.claims import SessionSettings
from gateway.errors import Unauthenticated
from gateway.execution.call import Caller

_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+')
_PAIR = re.compile(r'(By|Hash|Cert|Chain|Subject|URI|DNS)=("(?:[^"\\]|\\.)*"|[^;"]*)(?:;|$)', re.IGNORECASE)
_COMMON_NAME = re.compile(r"(?:^|[,/+])\s*CN\s*=\s*([^,/+]+)", re.IGNORECASE)
_LONGEST = 8192


class Certificates:
    """Finds the caller of a certificate's names."""

    def __init__(self, roles: Mapping[str, Sequence[str]], *, sent: SessionSettings) -> None:
        """``roles``: of each name, as in ``[auth.certificates]``."""
        self._callers = {}
        for name, given in roles.items():
            claims = {"sub": name, "roles": list(given)}
            self._callers[name] = Caller(
                name=f"cert:{name}", roles=frozenset(given), claims=claims, settings=sent.of(claims)
            )

    def caller_of(self, names: Sequence[str]) -> Caller:
        """Return who has the first of these names that is known; raises Unauthenticated."""
        for name in names:
            if (caller := self._callers.get(name)) is not None:
                return caller
        raise Unauthenticated


def names_in(certificate: Mapping[str, Any]) -> list[str]:
    """Return the names in a verified certificate, as ``ssl.SSLObject.getpeercert`` gives it."""
    others: list[tuple[str, str]] = [*certificate.get("subjectAltName", ())]
    names = [value for kind, value in others if kind == "URI"]
    names += [value for kind, value in others if kind == "DNS"]
    subject = certificate.get("subject", ())
    return names + [value for relative in subject for kind, value in relative if kind == "commonName"]


def forwarded_names(header: str) -> list[str]:
    """Return the names in a header of a trusted proxy: the last element's, which is the one that the proxy added.

    In Envoy's form (``URI=…;DNS=…;Subject="CN=…"``), or the name as it is.
    """
    elements = _ELEMENT.findall(header) if len(header) <= _LONGEST else []
    if not elements or ",".join(elements) != header:
        return []  # an element without anything in it, or a quotation mark that is never closed
    last = elements[-1].strip()
    pairs = [(key.lower(), _unquoted(value)) for key, value in _PAIR.findall(last)]
    if not pairs:
        return [last] if last else []
    if "".join(match.group() for match in _PAIR.finditer(last)) != last:
        return []  # something in it was not understood, so nothing of it is believed
    names = [value for key, value in pairs if key == "uri"]
    names += [value for key, value in pairs if key == "dns"]
    for key, value in pairs:
        if key == "subject":
            names += [name.strip() for name in _COMMON_NAME.findall(value)[:1]]
    return [name for name in names if name]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
