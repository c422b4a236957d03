"""JSON web tokens to callers: verified once, then looked up."""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import jwt

from gateway.auth.claims import SessionSettings, UnfitClaims, json_of, roles_of
from gateway.auth.key_set import KeySet
from gateway.errors import Unauthenticated
from gateway.execution.call import Caller
from gateway.settings import AuthSettings

KEPT = 10_000
"""Verified tokens."""
RECENT = 256
"""Of those, which are found by themselves."""
LONGEST = 8192
"""Bytes of a token."""
LONGEST_SUBJECT = 255


class _Kept(NamedTuple):
    ends: float
    """In seconds of the Unix epoch."""
    caller: Caller


class _Memory:
    """What was verified by one set of keys.

    NOTE: a thread keeps what it has verified in the memory of the set that it was verified by, also where another
    thread has taken over a new set meanwhile.
    """

    __slots__ = ("kept", "key_set", "recent")

    def __init__(self, key_set: KeySet | None) -> None:
        self.key_set = key_set
        self.kept: dict[bytes, _Kept] = {}
        """By hash."""
        self.recent: dict[str, _Kept] = {}

    def note_recent(self, token: str, kept: _Kept) -> None:
        """Keep a token itself."""
        if len(self.recent) >= RECENT:
            self.recent.clear()
        self.recent[token] = kept


class Tokens:
    """Finds the caller of a token.

    PERF: to verify a signature takes longer than a read of one row, so what was verified is kept by its hash; to make
    the hash takes 3 µs, so the tokens seen most recently are kept themselves.
    """

    def __init__(
        self,
        auth: AuthSettings,
        *,
        sent: SessionSettings,
        key_set: Callable[[], KeySet | None],
        on_unknown: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``key_set``: the keys in force; ``on_unknown`` is called for a token whose key is not among them."""
        self._auth = auth
        self._sent = sent
        self._key_set = key_set
        self._on_unknown = on_unknown
        self._clock = clock
        self._algorithms = frozenset(auth.algorithms)
        self._memory = _Memory(None)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._memory.kept)

    def caller_of(self, token: str) -> Caller:
        """Return whose token it is; raises Unauthenticated, in the same words whatever is wrong with it."""
        key_set = self._key_set()
        memory = self._memory
        if key_set is not memory.key_set:
            memory = self._memory = _Memory(key_set)
        recent = memory.recent.get(token)
        if recent is not None and self._clock() < recent.ends:
            return recent.caller
        if key_set is None or len(token) > LONGEST:
            if key_set is None:
                self._on_unknown()
            raise Unauthenticated
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        kept = memory.kept.get(digest)
        if kept is None or self._clock() >= kept.ends:
            claims = self._verified(token, key_set)
            kept = _Kept(int(claims["exp"]) + self._auth.leeway, self._caller(claims))
            if len(memory.kept) >= KEPT:
                with suppress(StopIteration, KeyError, RuntimeError):  # another thread may have changed it
                    del memory.kept[next(iter(memory.kept))]
            memory.kept[digest] = kept
        memory.note_recent(token, kept)
        return kept.caller

    def _verified(self, token: str, key_set: KeySet) -> dict[str, Any]:
        """The token's claims.

        SECURITY: the algorithm is one of those configured, and of the key's own; what the token says only chooses.
        """
        try:
            header = jwt.get_unverified_header(token)
        except Exception:  # noqa: BLE001 -- whatever a hostile token makes of its reader, it is none
            raise Unauthenticated from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
            raise Unauthenticated
        if algorithm not in self._algorithms or "crit" in header or "b64" in header:
            raise Unauthenticated
        candidates = key_set.candidates(key_id, algorithm)
        if not candidates:
            self._on_unknown()
        for key in candidates:
            with suppress(Exception):  # the same
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    issuer=self._auth.issuer,
                    audience=self._auth.audience,
                    leeway=self._auth.leeway,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
        raise Unauthenticated

    def _caller(self, claims: dict[str, Any]) -> Caller:
        subject = claims["sub"]
        if not (isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT and subject.isprintable()):
            raise Unauthenticated
        try:
            json_of(claims)
            sent = self._sent.of(claims)
        except (UnfitClaims, RecursionError):
            raise Unauthenticated from None
        roles = roles_of(claims, self._auth.roles_claim)
        return Caller(name=f"jwt:{subject}", roles=roles, claims=claims, settings=sent)
