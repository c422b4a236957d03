"""What each thing that can be switched on adds to a one-row read: processor time, next to the gateway without it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.auth.keys import digest_of, make
from gateway.demo.cluster import Cluster
from tests.bench.contender import Program, Round
from tests.bench.gateways import QUERIES, Setup, Sizes, serving
from tests.bench.results import median as medians
from tests.bench.workloads import WORKLOADS

SIZES = Sizes(workers=1, pool=16, join=False)
"""Of each: one worker, whose processor time is then that of its requests, each with a statement of its own."""
GENERATIONS = 8
"""How often each is started: two processes of one program differ by some percent for as long as they live."""
SECONDS = 1
"""Length of a round: short ones, so that what else the machine does meets all alike."""
WORKLOAD = next(workload for workload in WORKLOADS if workload.name == "one-row-16")
_CLAIMS = {"request.jwt.claims": "claims", "app.tenant": "claim:tenant_id"}


class Cost(NamedTuple):
    """Something that can be switched on."""

    title: str
    against: str
    """The contender that is without it."""
    limit: str = ""
    """How much it may cost, if that was promised."""


def _with_keys(folder: Path) -> Setup:
    key = make()
    file = folder / "keys.toml"
    file.write_text(
        f"[[key]]\nid = {json.dumps(key[4:12])}\nsha256 = {json.dumps(digest_of(key).hex())}\n"
        f'name = "bench"\nroles = ["reader"]\nparameters = {{ tenant_id = 7 }}\n'
    )
    file.chmod(0o600)
    return Setup({"GATEWAY_AUTH__MODE": "keys", "GATEWAY_AUTH__KEYS_FILE": str(file)}, f"Bearer {key}")


def _with_tokens(folder: Path) -> Setup:
    private = rsa.generate_private_key(65537, 2048)
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": [{**RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "one"}]}))
    now = int(time.time())
    claims = {"iss": "https://issuer/", "aud": "shop", "sub": "ann", "iat": now, "exp": now + 7200, "roles": ["reader"]}
    variables = {
        "GATEWAY_AUTH__MODE": "jwt",
        "GATEWAY_AUTH__ISSUER": "https://issuer/",
        "GATEWAY_AUTH__AUDIENCE": "shop",
        "GATEWAY_AUTH__JWKS_FILE": str(file),
    }
    return Setup(variables, f"Bearer {jwt.encode(claims, private, 'RS256', headers={'kid': 'one'})}")


def _with_claims(folder: Path) -> Setup:
    variables, authorization = _with_keys(folder)
    asked = {"GATEWAY_GROUPS__READ__SETTINGS": "true", "GATEWAY_AUTH__SETTINGS": json.dumps(_CLAIMS)}
    return Setup({**variables, **asked}, authorization)


def _with_rates(folder: Path) -> Setup:
    queries = folder / "rated"
    queries.mkdir()
    for file in QUERIES.glob("*.sql"):
        text = file.read_text().replace("-- name: product^\n", "-- name: product^\n-- @rate 1000000/s\n")
        (queries / file.name).write_text(text)
    return Setup({"GATEWAY_CATALOGUE__PATHS": str(queries)})


def _logging(_: Path) -> Setup:
    return Setup({"GATEWAY_LOG__ACCESS": "all"})


def _serving(
    name: str,
    setup: Callable[[Path], Setup] = lambda _: Setup({}),
    command: Sequence[str] = ("gateway", "serve", "-c"),
) -> Callable[[Cluster, Sizes], Program]:
    return serving(name, "pg-query-gateway", setup=setup, command=command)


CONTENDERS: dict[str, Callable[[Cluster, Sizes], Program]] = {
    "plain": _serving("plain"),
    "again": _serving("again"),
    "silent": _serving("silent", command=("tests.bench.silent",)),
    "counting": _serving("counting", lambda _: Setup({"BENCH_COUNTS": "1"}), command=("tests.bench.silent",)),
    "keys": _serving("keys", _with_keys),
    "jwt": _serving("jwt", _with_tokens),
    "claims": _serving("claims", _with_claims),
    "rates": _serving("rates", _with_rates),
    "access": _serving("access", _logging),
}
COSTS: Mapping[str, Cost] = {
    "again": Cost("nothing: how far two that are alike are apart", "plain"),
    "counting": Cost("metrics, and the look whether a call was slow", "silent", "≤ 3 %"),
    "keys": Cost("API keys", "plain", "≤ 3 %"),
    "jwt": Cost("tokens (RS256, verified before)", "plain", "≤ 5 %"),
    "claims": Cost("two settings of claims in front of the statement", "keys", "≤ 30 µs"),
    "rates": Cost("`@rate`", "plain", "≤ 3 %"),
    "access": Cost('`[log] access = "all"`', "plain"),
}


def table(rounds: Mapping[str, Sequence[Round]]) -> str:
    """A line for each cost, in Markdown: what it adds, as the median of the rounds' own differences."""
    lines = [
        "| switched on | without, µs a request | adds, µs | adds | limit | PostgreSQL, adds µs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, cost in COSTS.items():
        if name in rounds and cost.against in rounds:
            lines.append(_line(cost, rounds[name], rounds[cost.against]))
    return "\n".join(lines)


def _line(cost: Cost, rounds: Sequence[Round], to: Sequence[Round]) -> str:
    pairs = list(zip(rounds, to, strict=True))
    adds = median(one.processor_us - other.processor_us for one, other in pairs)
    share = median(one.processor_us / other.processor_us for one, other in pairs) - 1
    servers = median(one.server_us - other.server_us for one, other in pairs)
    without = medians(to).processor_us
    return f"| {cost.title} | {without:.1f} | {adds:+.1f} | {share:+.1%} | {cost.limit} | {servers:+.1f} |"
