"""What is read of whoever calls: keys, tokens, and the files and sets that they are verified by."""

import base64
import hashlib
import hmac
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import keys, keys_file
from gateway.auth.claims import SessionSettings
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_set import KeySet, Unusable
from gateway.auth.keys import Key
from gateway.auth.tokens import Tokens
from gateway.errors import Unauthenticated
from gateway.events import ignore
from gateway.faults import FaultsFound
from gateway.settings import AuthSettings
from tests.fuzz.fuzzing import Finding, Target
from tests.fuzz.mutating import Mutator

_SENT = SessionSettings({"request.jwt.claims": "claims", "app.sub": "claim:sub"})

# --- keys -------------------------------------------------------------------------------------------------------------

_KEY = "gwk_fuzzed01_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_141Kb6"


def _ring() -> KeyRing:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.toml"
        entry = Key(id=_KEY[4:12], sha256=keys.digest_of(_KEY).hex(), name="one", roles=("sales",))
        file.write_text(keys_file.added("", entry))
        return KeyRing(file, sent=_SENT, observe=ignore)


_RING = _ring()


def key_strings(data: bytes, _mutator: Mutator) -> str:
    """Keys as they are shown."""
    text = data.decode("latin-1")
    keys.id_of(text)
    try:
        _RING.caller_of(text)
    except Unauthenticated:
        return "refused"
    if text != _KEY:
        raise Finding("another key was taken")
    return "accepted"


def keys_files(data: bytes, _mutator: Mutator) -> str:
    """The file of keys, changed by whoever may."""
    try:
        keys_file.parse(data, "keys.toml")
    except FaultsFound:
        return "refused"
    return "read"


# --- tokens -----------------------------------------------------------------------------------------------------------

_PRIVATE = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
_PUBLIC = _PRIVATE.public_key()
_CLAIMS = {"iss": "https://issuer", "aud": "gateway", "sub": "somebody", "exp": 4_000_000_000, "roles": ["sales"]}


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _signed(header: Mapping[str, Any], secret: bytes = b"", claims: Mapping[str, Any] = _CLAIMS) -> bytes:
    """A token that some library may take: made by hand, as no library makes it."""
    text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest() if secret else b""
    return f"{text}.{_base64(signature)}".encode()


def _jwk() -> dict[str, Any]:
    numbers = _PUBLIC.public_numbers()
    x, y = (_base64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "use": "sig", "x": x, "y": y}


_PEM = _PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_SET = json.dumps({"keys": [_jwk(), {"kty": "oct", "k": "AAAA"}]}).encode()
_VALID = (
    "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSIsInR5cCI6IkpXVCJ9."
    "eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6ImdhdGV3YXkiLCJzdWIiOiJzb21lYm9keSIsImV4cCI6NDAwMDAwMDAwMCwi"
    "cm9sZXMiOlsic2FsZXMiXX0"
    ".Of8tDsGqJK745YT06ydFzNN_IqELkVDXIwmvUIjy0uC1agVZmAttIoMMorEWE-BdIjZEY-LDfkQ1H7Vq3Ic_pA"
)
"""Signed once with the key above, as each signature is another one."""
_ALGORITHMS = AuthSettings().algorithms
_KEY_SET = KeySet.parse(_SET, _ALGORITHMS)
_TOKENS = Tokens(
    AuthSettings(mode=("jwt",), issuer="https://issuer", audience="gateway"),
    sent=_SENT,
    key_set=lambda: _KEY_SET,
    on_unknown=lambda: None,
)
_TRICKS: list[dict[str, Any]] = [
    {"alg": "none"},
    {"alg": "None", "kid": "one"},
    {"alg": "HS256", "kid": "one"},
    {"alg": "HS256"},
    {"alg": ["ES256"], "kid": "one"},
    {"alg": "ES256", "kid": None},
    {"alg": "ES256", "kid": {"$gt": ""}},
    {"alg": "ES256", "kid": "../../etc/passwd"},
    {"alg": "ES256", "jwk": _jwk()},
    {"alg": "ES256", "x5u": "http://127.0.0.1:1/"},
    {"alg": "ES256", "jku": "http://127.0.0.1:1/"},
    {"alg": "ES256", "b64": False, "crit": ["b64"]},
    {"alg": "ES256", "kid": "one", "typ": 7},
    {"alg": "ES256\x00", "kid": "one"},
    {"alg": "EdDSA", "kid": "one"},
    {"alg": "", "kid": ""},
]


def tokens(data: bytes, _mutator: Mutator) -> str:
    """Tokens, with all that their heads may say about how to verify them."""
    text = data.decode("latin-1")
    try:
        _TOKENS.caller_of(text)
    except Unauthenticated:
        return "refused"
    # The last character of a signature has bits that mean nothing.
    if text.rpartition(".")[0] != _VALID.rpartition(".")[0]:
        raise Finding("another token was taken")
    return "accepted"


def key_sets(data: bytes, _mutator: Mutator) -> str:
    """What an identity provider answers."""
    try:
        read = KeySet.parse(data, _ALGORITHMS)
    except Unusable:
        return "refused"
    if read.candidates(None, "HS256"):
        raise Finding("a public key may be used as a secret")
    return "read"


TARGETS: Mapping[str, Target] = {
    "key_strings": Target(key_strings, [_KEY.encode(), b"gwk_", b"Bearer x"], [b"_", b"gwk_", b"A" * 43]),
    "keys_files": Target(
        keys_files,
        [keys_file.added("", Key(id="0" * 8, sha256="0" * 64, name="a", expires=2e9, rate="5/s")).encode()],
        [b"[[key]]\n", b"rate = '1/s'\n", b"parameters = {a = [1, {}]}\n", b"expires = 2027-01-01T00:00:00Z\n", b"'''"],
    ),
    "jwts": Target(
        tokens,
        [*[_VALID.encode()] * 4, b"a.b.c", *(_signed(header, secret) for header in _TRICKS for secret in (b"", _PEM))],
        [b".", b"..", b"=", b"eyJhbGciOiJub25lIn0", b"eyJhbGciOiJIUzI1NiJ9", b"A" * 43],
    ),
    "key_sets": Target(
        key_sets,
        [_SET, b'{"keys": []}', b"{}", b"[]"],
        [b'"kty": "oct"', b'"RSA"', b'"n": "AQAB"', b"null", b'"e"', b"1e999"],
    ),
}
