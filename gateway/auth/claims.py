"""What is known of a caller, as parameters and settings of the session take it."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from gateway.execution.call import claim_of

NO_ROLE = "none"
"""With which ``SET ROLE`` gives back the role that the gateway connects as."""


class UnfitClaims(Exception):
    """Claims hold what PostgreSQL's text cannot: NUL, or half of a surrogate pair."""


def roles_of(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the roles that a claim holds: a list of words, or words in one string; what is neither holds none."""
    found = claim_of(claims, path)
    words = found.split() if isinstance(found, str) else found
    return frozenset(word for word in words if isinstance(word, str)) if isinstance(words, list) else frozenset()


def json_of(value: Any) -> str:
    """Return JSON text of a claim; raises UnfitClaims."""
    return _fit(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _fit(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnfitClaims from None
    if "\0" in text:
        raise UnfitClaims
    return text


class SessionSettings:
    """What goes in front of a caller's statements in groups with ``settings = true``.

    Every setting is sent for every caller, of an anonymous one too, as ``{}`` or empty: what was set for a transaction
    alone reads as the empty string afterwards, not as NULL, so that a policy would meet either.
    """

    def __init__(self, settings: Mapping[str, str], database_roles: Collection[str] = ()) -> None:
        """Both as in ``[auth]``."""
        self._settings = dict(settings)
        self._roles = frozenset(database_roles)

    def of(self, claims: Mapping[str, Any], *, is_known: bool = True) -> Mapping[str, str] | None:
        """Return each setting with its value; None for a known caller whose claims give no role of the database's.

        Raises UnfitClaims.
        """
        sent = {name: _text(claims, source) for name, source in self._settings.items()}
        if "role" in sent and not is_known:
            sent["role"] = NO_ROLE
        elif "role" in sent and sent["role"] not in self._roles:
            return None
        return sent


def _text(claims: Mapping[str, Any], source: str) -> str:
    """All claims as JSON, or one: a string as it is, anything else as JSON, and empty where there is none."""
    if source == "claims":
        return json_of(claims)
    value = claim_of(claims, source.removeprefix("claim:"))
    if value is None:
        return ""
    return _fit(value) if isinstance(value, str) else json_of(value)
