"""Which tokens have a caller."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.claims import SessionSettings
from gateway.auth.key_set import KeySet, Unusable
from gateway.auth.tokens import KEPT, LONGEST, RECENT, Tokens
from gateway.errors import Unauthenticated
from gateway.settings import AuthSettings
from tests.auth.issuer import AUDIENCE, ISSUER, SigningKey, key_set

RSA, EC, ED = SigningKey("rsa", "RS256"), SigningKey("ec", "ES256"), SigningKey("ed", "EdDSA")
FOREIGN = SigningKey("ec", "ES256")
AUTH = AuthSettings(mode=("jwt",), issuer=ISSUER, audience=AUDIENCE)
NOW = int(time.time())


class Rig:
    def __init__(self, *keys: SigningKey, auth: AuthSettings = AUTH, content: bytes | None = None) -> None:
        self.now = time.time()
        self.asked = 0
        self.set: KeySet | None = KeySet.parse(content or key_set(*(keys or (RSA, EC, ED))), auth.algorithms)
        sent = SessionSettings({"request.jwt.claims": "claims"})
        self.tokens = Tokens(auth, sent=sent, key_set=lambda: self.set, on_unknown=self.ask, clock=lambda: self.now)

    def ask(self) -> None:
        self.asked += 1

    def is_known(self, token: str) -> bool:
        try:
            self.tokens.caller_of(token)
        except Unauthenticated:
            return False
        return True


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def pem(key: SigningKey) -> bytes:
    public: bytes = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public


def hs256(secret: bytes, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Signed by hand, as libraries refuse to take a public key for a secret."""
    body = f"{encoded(header)}.{encoded(claims)}"
    return f"{body}.{encoded(hmac.digest(secret, body.encode(), hashlib.sha256))}"


ENDLESS = b'{"alg": ' + b"1" * 5000 + b"}"
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": NOW + 86_400}


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
def test_a_good_token_is_its_subjects(key: SigningKey) -> None:
    caller = Rig().tokens.caller_of(key.sign(roles=["sales", "support"], tenant_id=7))
    assert (caller.name, caller.roles) == ("jwt:ann", frozenset({"sales", "support"}))
    assert caller.claims["tenant_id"] == 7
    assert caller.settings is not None
    assert json.loads(caller.settings["request.jwt.claims"]) == caller.claims


@pytest.mark.parametrize(
    ("path", "claims", "roles"),
    [
        ("roles", {"roles": "sales  support"}, {"sales", "support"}),
        ("realm_access.roles", {"realm_access": {"roles": ["sales"]}}, {"sales"}),
        ("https://shop/roles", {"https://shop/roles": ["sales"]}, {"sales"}),
        ("https://shop.example/roles", {"https://shop.example/roles": ["sales"]}, {"sales"}),
        ("roles", {"roles": ["sales", 7, None]}, {"sales"}),
        ("roles", {"roles": {"sales": True}}, set()),
        ("roles", {}, set()),
        ("a.b", {"a": ["b"]}, set()),
    ],
)
def test_roles_are_where_the_settings_say(path: str, claims: dict[str, Any], roles: set[str]) -> None:
    auth = AuthSettings(mode=("jwt",), issuer=ISSUER, audience=AUDIENCE, roles_claim=path)
    assert Rig(auth=auth).tokens.caller_of(EC.sign(**claims)).roles == frozenset(roles)


WRONG: dict[str, Callable[[], str]] = {
    "expired": lambda: EC.sign(exp=NOW - 60),
    "not yet": lambda: EC.sign(nbf=NOW + 3600),
    "issued in the future": lambda: EC.sign(iat=NOW + 3600),
    "no exp": lambda: EC.sign(exp=None),
    "no sub": lambda: EC.sign(sub=None),
    "an empty sub": lambda: EC.sign(sub=""),
    "a long sub": lambda: EC.sign(sub="x" * 256),
    "a sub with a line": lambda: EC.sign(sub="a\nb"),
    "another issuer": lambda: EC.sign(iss="https://other.example/"),
    "no issuer": lambda: EC.sign(iss=None),
    "another audience": lambda: EC.sign(aud="other"),
    "no audience": lambda: EC.sign(aud=None),
    "another's key of the same id": lambda: FOREIGN.sign(),
    "a key that is not there": lambda: SigningKey("new").sign(),
    "no signature": lambda: EC.sign().rpartition(".")[0] + ".",
    "a changed payload": lambda: ".".join([EC.sign().split(".")[0], encoded(CLAIMS), EC.sign().split(".")[2]]),
    "none": lambda: f"{encoded({'alg': 'none', 'kid': 'ec'})}.{encoded(CLAIMS)}.",
    "None": lambda: f"{encoded({'alg': 'None'})}.{encoded(CLAIMS)}.",
    "an alg that is a list": lambda: f"{encoded({'alg': ['ES256'], 'kid': 'ec'})}.{encoded(CLAIMS)}.x",
    "a public key as a secret": lambda: hs256(pem(RSA), {"alg": "HS256", "kid": "rsa"}, CLAIMS),
    "the same, said to be RS256": lambda: hs256(pem(RSA), {"alg": "RS256", "kid": "rsa"}, CLAIMS),
    "a key of another algorithm": lambda: EC.sign(headers={"kid": "rsa"}),
    "an algorithm that is not configured": lambda: jwt.encode(CLAIMS, RSA.private, "PS256", headers={"kid": "rsa"}),
    "a key of its own": lambda: FOREIGN.sign(headers={"jwk": FOREIGN.jwk(), "kid": "ec"}),
    "a critical extension": lambda: EC.sign(headers={"crit": ["x"], "x": 1}),
    "a kid that is a number": lambda: EC.sign().replace(EC.sign().split(".")[0], encoded({"alg": "ES256", "kid": 7})),
    "five parts": lambda: EC.sign() + ".a.b",
    "too long": lambda: EC.sign(padding="x" * LONGEST),
    "deep": lambda: f"{encoded(b'[' * 3000)}.{encoded(CLAIMS)}.x",
    "a deep payload": lambda: f"{EC.sign().split('.')[0]}.{encoded(b'[' * 3000)}.x",
    "an endless number": lambda: ".".join([encoded(ENDLESS), encoded(CLAIMS), "x"]),
    "half a pair": lambda: EC.sign(name="\ud800"),
    "an endless exp": lambda: EC.sign(exp=float("inf")),
    "no number": lambda: EC.sign(exp=float("nan")),
}  # fmt: skip


@pytest.mark.parametrize("made", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_in_the_same_words(made: Callable[[], str]) -> None:
    rig = Rig()
    with pytest.raises(Unauthenticated) as refused:
        rig.tokens.caller_of(made())
    assert refused.value.detail == Unauthenticated().detail
    assert len(rig.tokens) == 0


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: f"{encoded(raw)}.{encoded(CLAIMS)}.x"))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    assert not RIG.is_known(text)


RIG = Rig()


@pytest.mark.parametrize("off", [-25, 29])
def test_the_issuers_clock_may_differ_by_the_leeway(off: int) -> None:
    moment = int(time.time()) + off
    assert Rig().is_known(EC.sign(iat=moment, nbf=moment, exp=moment if off < 0 else moment + 300))


def test_a_token_without_an_id_is_by_the_only_key_of_its_algorithm() -> None:
    unnamed = SigningKey(None)
    assert Rig(unnamed).is_known(unnamed.sign())
    assert Rig(unnamed, RSA).is_known(unnamed.sign())
    assert not Rig(unnamed, EC).is_known(unnamed.sign())


def test_a_verified_token_is_looked_up_until_it_expires() -> None:
    rig = Rig()
    ends = int(time.time()) + 300
    token = EC.sign(exp=ends)
    first = rig.tokens.caller_of(token)
    assert rig.tokens.caller_of(token) is first
    rig.now = ends + 29
    assert rig.tokens.caller_of(token) is first
    rig.now = ends + 30
    assert rig.tokens.caller_of(token) is not first  # it is verified again, by the clock of the machine


def test_verified_tokens_are_forgotten_when_the_keys_change() -> None:
    rig = Rig(EC)
    token = EC.sign()
    assert rig.is_known(token)
    rig.set = KeySet.parse(key_set(ED), AUTH.algorithms)
    assert not rig.is_known(token)
    rig.set = None
    assert not rig.is_known(token)


def test_no_more_are_kept_than_fit() -> None:
    rig = Rig(auth=AuthSettings(mode=("jwt",), issuer=ISSUER, audience=AUDIENCE))
    assert rig.is_known(RSA.sign())
    rig.tokens._memory.kept.clear()
    for number in range(KEPT):
        rig.tokens._memory.kept[str(number).encode()] = None  # type: ignore[assignment]
    assert rig.is_known(EC.sign())
    assert len(rig.tokens) == KEPT


@pytest.mark.parametrize(
    ("made", "asks"),
    [(lambda: SigningKey("new").sign(), 1), (lambda: FOREIGN.sign(), 0), (lambda: "x", 0), (lambda: EC.sign(), 0)],
    ids=["a key that is not there", "a wrong signature", "no token", "a good one"],
)
def test_only_a_key_that_is_not_there_asks_for_the_keys(made: Callable[[], str], asks: int) -> None:
    rig = Rig()
    rig.is_known(made())
    assert rig.asked == asks


SECRET = b"s" * 32


def test_a_secret_verifies_what_was_signed_by_it() -> None:
    auth = AuthSettings(mode=("jwt",), issuer=ISSUER, audience=AUDIENCE, algorithms=("HS256",))
    rig = Rig(auth=AUTH)
    rig.tokens = Tokens(
        auth,
        sent=SessionSettings({}),
        key_set=lambda: secret,
        on_unknown=rig.ask,
    )
    secret = KeySet.of_secret(SECRET, ["HS256"])
    assert rig.is_known(jwt.encode(CLAIMS, SECRET, "HS256"))
    assert rig.is_known(jwt.encode(CLAIMS, SECRET, "HS256", headers={"kid": "any"}))
    assert not rig.is_known(jwt.encode(CLAIMS, b"t" * 32, "HS256"))
    assert not rig.is_known(jwt.encode(CLAIMS, b"s" * 64, "HS512"))
    assert not rig.is_known(EC.sign())


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(Unusable, match="at least 32 bytes, this one has 3"):
        KeySet.of_secret(b"abc", ["HS256"])


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": encoded(SECRET), "alg": "HS256"},
        {"kty": "oct", "k": encoded(SECRET), "alg": "ES256"},
        EC.jwk(use="enc"),
        EC.jwk(key_ops=["encrypt"]),
        EC.jwk(alg="ES384"),
        EC.jwk(alg="none"),
        EC.jwk(crv="secp256k1"),
        EC.jwk(x="AA"),
        EC.jwk(d="AA"),
        SigningKey("small", "RS256", bits=1024).jwk(),
        {"kty": "RSA", "n": 3, "e": "AQAB"},
        {"kty": ["EC"]},
        {},
        7,
    ],
)
def test_a_key_for_something_else_is_left_out(jwk: Any) -> None:
    with pytest.raises(Unusable):
        KeySet.parse(json.dumps({"keys": [jwk]}).encode(), AUTH.algorithms)
    both = KeySet.parse(json.dumps({"keys": [jwk, ED.jwk()]}).encode(), AUTH.algorithms)
    assert len(both) == 1


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"keys": 7}', b'{"keys": []}', b"[" * 100000, b"\xff"])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(Unusable):
        KeySet.parse(content, AUTH.algorithms)


def test_a_set_is_the_same_in_any_order() -> None:
    assert KeySet.parse(key_set(EC, ED), AUTH.algorithms) == KeySet.parse(key_set(ED, EC), AUTH.algorithms)
    assert KeySet.parse(key_set(EC), AUTH.algorithms) != KeySet.parse(key_set(FOREIGN), AUTH.algorithms)


def test_tokens_that_are_kept_themselves_are_few() -> None:
    rig = Rig()
    first = ED.sign(sub="first")
    rig.tokens.caller_of(first)
    for number in range(RECENT):
        rig.tokens.caller_of(ED.sign(sub=f"s{number}"))
    assert len(rig.tokens._memory.recent) <= RECENT
    assert first not in rig.tokens._memory.recent
    assert rig.tokens.caller_of(first).name == "jwt:first"
    assert first in rig.tokens._memory.recent
