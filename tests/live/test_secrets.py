"""What is secret is told to nobody: looked for in everything that a node says, at its most talkative."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.auth import keys, keys_file
from gateway.auth.key_set import KeySet, VerifyingKey
from gateway.auth.keys import Key
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.driver import Address
from gateway.server.artefact import CURRENT, SUFFIX
from gateway.settings import EndpointSettings
from tests.live.authorities import Authority
from tests.live.gateways import Gateway, serving, wait_until

PASSWORD, IN_FILE, IN_DSN_FILE = "canary-of-the-dsn", "canary-of-the-password-file", "canary-of-the-dsn-file"
SIGNS_TOKENS = "canary-of-the-secret-that-signs-tokens"
VALUE = "canary-of-an-argument"
ROUTES = ("/", "/docs", "/health", "/health/ready", "/metrics", "/queries", "/queries/echo", "/openapi.json")
QUERIES = """
-- name: echo(value)$
-- @param value text maxLength=200
SELECT :value;

-- name: keep(value)!
-- @param value text
INSERT INTO kept_values VALUES (:value);

-- name: halve(value)$
-- @param value text
SELECT 1 / (length(:value) - length(:value));

-- name: parse(value)$
-- @param value text
SELECT :value::text::int;

-- name: slow(value)$
-- @timeout 200ms
-- @param value text
SELECT :value FROM pg_sleep(5);

-- name: raised(value)$
-- @access write
-- @param value text
SELECT complain(:value);
"""
TABLES = """
CREATE TABLE kept_values (value text UNIQUE);
CREATE FUNCTION complain(value text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = value, HINT = value, ERRCODE = '22023'; END $$;
GRANT ALL ON kept_values TO PUBLIC;
"""


class Talkative:
    """A node that says all it can, and what it must not say."""

    def __init__(self, node: Gateway, secrets: dict[str, str], shown: dict[str, str]) -> None:
        self.node = node
        self.secrets = secrets
        """What is nobody's business, by what it is."""
        self.shown = shown
        """Credentials of its callers."""
        self.said: list[str] = []
        """All that was answered."""

    def ask(self, method: str, path: str, credentials: str | None = None, **more: Any) -> int:
        headers = {**more.pop("headers", {}), **({"Authorization": credentials} if credentials else {})}
        answer = self.node.client.request(method, path, headers=headers, **more)
        self.said.append(f"{answer.headers} {answer.text}")
        return answer.status_code

    def found_in(self, text: str) -> list[str]:
        return [name for name, secret in self.secrets.items() if secret in text]


@pytest.fixture(scope="module")
def talkative(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talkative]:
    folder = tmp_path_factory.mktemp("secrets")
    primary = cluster.primary
    primary.sql(TABLES, shop.DATABASE)
    (folder / "queries.sql").write_text(QUERIES)
    made = keys.make()
    key = Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name="operator", roles=("admin",))
    issued = Authority(folder).issue("localhost")
    files = {
        "keys.toml": keys_file.added("", key),
        "password": IN_FILE,
        "dsn": f"host=127.0.0.1 port={primary.port} dbname=nowhere user=gateway password={IN_DSN_FILE}",
        "secret": SIGNS_TOKENS,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    endpoints = {
        "stranger": f"postgresql://nobody-here:{PASSWORD}@127.0.0.1:{primary.port}/{shop.DATABASE}",
        "nowhere": f"host=127.0.0.1 port=1 user=gateway password={PASSWORD} sslpassword={PASSWORD}",
        "primary": f"{shop.dsn(primary)} password={PASSWORD}",
    }
    settings: dict[str, Any] = {
        "server": {"verbose_errors": True, "timeout": "2s"},
        "log": {"level": "debug", "slow": "1ms", "access": "all", "audit": "writes", "format": "json"},
        "auth": {
            "mode": ["keys", "jwt"],
            "keys_file": str(folder / "keys.toml"),
            "issuer": "issuer",
            "audience": "gateway",
            "algorithms": ["HS256"],
            "jwt_secret_file": str(folder / "secret"),
        },
        "endpoints.filed": {"dsn": shop.dsn(primary), "password_file": str(folder / "password")},
        "endpoints.secretive": {"dsn_file": str(folder / "dsn")},
    }
    claims = {"iss": "issuer", "aud": "gateway", "sub": "somebody", "exp": time.time() + 600, "roles": ["admin"]}
    token = jwt.encode(claims, SIGNS_TOKENS, algorithm="HS256")
    secrets = {
        "password in a dsn": PASSWORD,
        "password in a file": IN_FILE,
        "password in the file of a dsn": IN_DSN_FILE,
        "secret of tokens": SIGNS_TOKENS,
        "key": made[13:],
        "hash of a key": key.sha256,
        "token": token.rpartition(".")[2],
        "private key": issued.key.read_text().splitlines()[1],
    }
    with serving(cluster, folder, settings, endpoints=endpoints, paths=[folder / "queries.sql"], ready=False) as node:
        wait_until(lambda: "nowhere" in node.log and "stranger" in node.log, "its servers are looked at")
        yield Talkative(node, secrets, {"key": f"Bearer {made}", "token": f"Bearer {token}"})
    primary.sql("DROP TABLE kept_values; DROP FUNCTION complain", shop.DATABASE)


def ask_for_all(talkative: Talkative) -> None:
    """Every route, and every way in which a call and a caller may fail."""
    for credentials in talkative.shown.values():
        wait_until(lambda: talkative.ask("GET", "/health/ready") == 200, "ready")
        for path in ROUTES:
            talkative.ask("GET", path, credentials)
        for query in ("echo", "keep", "keep", "halve", "parse", "slow", "raised"):
            talkative.ask("POST", f"/query/{query}", credentials, json={"value": VALUE})
        talkative.ask("POST", "/query/echo", credentials, json={"value": VALUE * 10, VALUE: 1})
        talkative.ask("GET", f"/query/echo?value={VALUE}&{VALUE}=1", credentials)
        talkative.ask("POST", "/query/echo", credentials, content=f'{{"value": "{VALUE}'.encode())
        talkative.ask("POST", f"/query/{VALUE}", credentials)
        step = {"query": "parse", "arguments": {"value": VALUE}}
        talkative.ask("POST", "/transaction", credentials, json={"steps": [step]})
        talkative.ask("GET", f"/outcome/{VALUE}", credentials)
        talkative.ask("POST", "/admin/learn?wait=1ms", credentials)
        for bad in (
            credentials[:-9],
            f"{credentials}x",
            credentials.replace("Bearer", "Basic"),
            f"{credentials} {VALUE}",
        ):
            assert talkative.ask("GET", "/queries", bad) in (401, 429)
        talkative.ask("GET", "/queries", headers={"Cookie": credentials, "X-Api-Key": credentials})


def test_secrets_and_values_are_nowhere(talkative: Talkative) -> None:
    ask_for_all(talkative)
    node = talkative.node
    wait_until(lambda: all(query in node.log for query in ("echo", "keep", "slow")), "the log has calls in it")
    assert talkative.found_in("\n".join(talkative.said)) == []
    for pid in [node.program.pid, *node.workers()]:
        assert talkative.found_in(Path(f"/proc/{pid}/cmdline").read_text()) == []
    for file in (file for file in node.runtime.rglob("*") if file.is_file()):
        if file.name == CURRENT or file.suffix == SUFFIX:
            assert file.stat().st_mode & 0o077 == 0  # it holds the passwords that are in the settings, and no others
            assert set(talkative.found_in(file.read_text())) <= {"password in a dsn", "password in the file of a dsn"}
        else:
            assert talkative.found_in(file.read_bytes().decode("latin-1")) == [], file
    node.end()
    log = node.log
    assert talkative.found_in(log) == []
    assert VALUE not in log.replace(f"/query/{VALUE}", "").replace(f"/outcome/{VALUE}", "")


@pytest.mark.parametrize(
    "secretive",
    [
        Address(dsn=f"postgresql://u:{PASSWORD}@h/db", password=PASSWORD),
        EndpointSettings(dsn=f"host=h password={PASSWORD}", password=PASSWORD),
        KeySet.of_secret(PASSWORD.encode() * 3, ["HS256"]),
        VerifyingKey(None, frozenset({"HS256"}), PASSWORD.encode()),
    ],
    ids=lambda secretive: type(secretive).__name__,
)
def test_nothing_that_holds_a_secret_shows_it_when_it_is_printed(secretive: object) -> None:
    assert PASSWORD not in f"{secretive!r} {secretive}"
