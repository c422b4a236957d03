"""The keys by which tokens are verified (JWK sets, RFC 7517), and which algorithms each of them may be used with.

The only importer of PyJWT beside ``tokens``; both are loaded only where ``[auth] mode`` has ``jwt``.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LEAST_RSA_BITS = 2048
LEAST_SECRET = 32
"""Bytes of a secret for HS256 and the like (RFC 7518 section 3.2)."""
_MOST_KEYS = 100
_FAMILIES: Mapping[tuple[str, str | None], Sequence[str]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Algorithms by type of key and curve. SECURITY: never a symmetric one: it would take a public key for a secret."""


class Unusable(Exception):
    """There is no key in it that could be used; the message says why."""


class VerifyingKey(NamedTuple):
    """One key."""

    id: str | None
    algorithms: frozenset[str]
    key: Any

    def __repr__(self) -> str:
        """Show what it is for, and never a secret."""
        return f"VerifyingKey({self.id!r}, {sorted(self.algorithms)})"


class KeySet:
    """Keys in force together. Two sets are equal if they verify the same tokens."""

    def __init__(self, keys: Sequence[VerifyingKey], identity: frozenset[str]) -> None:
        """``identity``: what tells this set from others."""
        self._keys = tuple(keys)
        self._identity = identity

    @classmethod
    def of_secret(cls, secret: bytes, algorithms: Collection[str]) -> "KeySet":
        """The set of one secret, for HS256 and the like. Raises Unusable."""
        if len(secret) < LEAST_SECRET:
            raise Unusable(f"a secret needs at least {LEAST_SECRET} bytes, this one has {len(secret)}")
        return cls([VerifyingKey(None, frozenset(algorithms), secret)], frozenset())

    @classmethod
    def parse(cls, content: bytes, algorithms: Collection[str]) -> "KeySet":
        """Read a JWK set, and leave out keys that are for other things. Raises Unusable."""
        try:
            read = json.loads(content)
        except (ValueError, RecursionError):
            raise Unusable("it is not JSON") from None
        listed = read.get("keys") if isinstance(read, dict) else None
        if not isinstance(listed, list):
            raise Unusable('it is no key set: there is no list "keys"')
        keys, identity = [], set()
        for each in listed[:_MOST_KEYS]:
            key = _key(each, frozenset(algorithms)) if isinstance(each, dict) else None
            if key is not None:
                keys.append(key)
                identity.add(json.dumps(each, sort_keys=True))
        if not keys:
            raise Unusable(f"none of its {len(listed)} keys is a public one for {', '.join(sorted(algorithms))}")
        return cls(keys, frozenset(identity))

    def __len__(self) -> int:
        return len(self._keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self._identity == other._identity and len(self) == len(other)

    __hash__ = None  # type: ignore[assignment]

    def candidates(self, key_id: str | None, algorithm: str) -> list[Any]:
        """The keys that may have signed so, of this id; without an id the only one of the algorithm."""
        fitting = [each for each in self._keys if algorithm in each.algorithms]
        if key_id is None:
            return [fitting[0].key] if len(fitting) == 1 else []
        return [each.key for each in fitting if each.id in (key_id, None)]


def _key(jwk: Mapping[str, Any], allowed: frozenset[str]) -> VerifyingKey | None:
    """One member of a set; None where it is not for verifying signatures of ours."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    family = _FAMILIES.get((str(kind), None if kind == "RSA" else str(curve)), ())
    said = jwk.get("alg")
    usable = allowed & ({said} & {*family} if isinstance(said, str) else {*family})
    operations = jwk.get("key_ops")
    is_for_this = jwk.get("use", "sig") == "sig" and (not isinstance(operations, list) or "verify" in operations)
    if not usable or not is_for_this or "d" in jwk:  # a private key that was published is anybody's
        return None
    try:
        key = jwt.PyJWK(dict(jwk), min(usable)).key
    except Exception:  # noqa: BLE001 -- whatever is wrong with a key of somebody else's, it is none
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return None
    key_id = jwk.get("kid")
    return VerifyingKey(key_id if isinstance(key_id, str) else None, frozenset(usable), key)
