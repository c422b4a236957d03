"""From a DSN to libpq's parameters; nothing here asks a server or a name server."""

import os
import socket
from pathlib import Path

import pytest
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from gateway.postgres import dsn
from gateway.postgres.dsn import complete, is_local, names_of, render, resolve, system_roots


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*dsn.ENVIRONMENT.values(), "PGSERVICEFILE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dbname=shop",
        "host=localhost",
        "host=127.0.0.1",
        "host=127.8.9.1",
        "host=::1",
        "postgresql://u:p@[::1]:5433/shop",
        "host=/run/postgresql",
        "host=@abstract",
        "host=/run/postgresql,localhost",
        "hostaddr=127.0.0.1",
    ],
)
def test_this_machine_needs_no_tls(text: str) -> None:
    assert "sslmode" not in complete(text)


@pytest.mark.parametrize(
    "text",
    [
        "host=10.0.0.1",
        "host=db.example",
        "postgresql://u:p@db.example/shop",
        "postgresql://[2001:db8::1]/shop",
        "host=localhost,db.example",
        "hostaddr=10.0.0.1",
        "host=localhost hostaddr=10.0.0.1",
        "service=shop",
        "host=localhost.example",
    ],
)
def test_a_host_off_loopback_is_verified_in_full(text: str) -> None:
    assert complete(text)["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    ("name", "value"), [("PGHOST", "db.example"), ("PGHOSTADDR", "10.0.0.1"), ("PGSERVICE", "shop")]
)
def test_a_host_from_the_environment_is_verified_in_full(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert complete("dbname=shop")["sslmode"] == "verify-full"


def test_a_chosen_sslmode_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete("host=db.example sslmode=require")["sslmode"] == "require"
    monkeypatch.setenv("PGSSLMODE", "require")
    assert complete("host=db.example")["sslmode"] == "require"


def test_the_systems_certificates_are_trusted_unless_others_were_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert complete("host=db.example")["sslrootcert"] == system_roots()
    assert complete("host=db.example sslmode=verify-full")["sslrootcert"] == system_roots()
    assert complete("host=db.example sslmode=verify-full sslrootcert=system")["sslrootcert"] == system_roots()
    assert complete("host=db.example sslrootcert=/etc/own.crt")["sslrootcert"] == "/etc/own.crt"
    assert "sslrootcert" not in complete("host=db.example sslmode=require")
    own = tmp_path / ".postgresql" / "root.crt"
    own.parent.mkdir()
    own.touch()
    assert "sslrootcert" not in complete("host=db.example")
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/own.crt")
    assert complete("host=db.example")["sslrootcert"] == "/etc/own.crt"
    monkeypatch.delenv("PGSSLROOTCERT")
    own.unlink()
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert complete("host=localhost")["sslrootcert"] == system_roots()


def test_the_systems_certificates_are_a_file_that_is_there_or_libpqs_to_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = system_roots()
    assert found == "system" or Path(found).is_file()
    monkeypatch.setattr(dsn, "BUNDLES", (str(tmp_path / "none"),))
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/somewhere.pem")
    assert system_roots() == "system"


def test_settings_become_options_in_front_of_the_dsns_own_and_keep_their_spaces() -> None:
    parameters = complete(
        "dbname=shop options='-c search_path=app'", settings={"DateStyle": "ISO, MDY", "x.y": "a\\b\tc"}
    )
    assert parameters["options"] == "-c DateStyle=ISO,\\ MDY -c x.y=a\\\\b\\\tc -c search_path=app"


SERVICES = """\
# services
[other]
host=other.example
[shop]
host=db.example
port=5433
sslmode=require
options=-c search_path=app
keepalives_idle=60
host=never.example
[last]
host=last.example
"""


@pytest.fixture
def services(tmp_path: Path) -> Path:
    file = tmp_path / ".pg_service.conf"
    file.write_text(SERVICES)
    return file


@pytest.mark.usefixtures("services")
def test_a_service_says_what_the_dsn_does_not() -> None:
    found = complete("service=shop port=1", settings={"DateStyle": "ISO"})
    assert (found["host"], found["port"], found["sslmode"]) == ("db.example", "1", "require")
    assert found["options"] == "-c DateStyle=ISO -c search_path=app"
    assert found["keepalives_idle"] == "60"
    assert names_of(found) == ["db.example"]
    assert complete("service=other")["sslmode"] == "verify-full"


def test_a_service_is_found_where_libpq_finds_it(
    services: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGSERVICE", "shop")
    assert complete("")["host"] == "db.example"
    moved = services.rename(tmp_path / "moved.conf")
    assert "host" not in complete("")
    monkeypatch.setenv("PGSERVICEFILE", str(moved))
    assert complete("")["host"] == "db.example"
    monkeypatch.delenv("PGSERVICEFILE")
    moved.rename(tmp_path / "pg_service.conf")
    assert complete("")["host"] == "db.example"


def test_the_environments_options_are_joined_unless_the_dsn_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c geqo=off")
    assert complete("", settings={"DateStyle": "ISO"})["options"] == "-c DateStyle=ISO -c geqo=off"
    assert complete("options='-c jit=off'", settings={"DateStyle": "ISO"})["options"] == "-c DateStyle=ISO -c jit=off"


@pytest.mark.parametrize(
    ("word", "asked"), [("read-write", "primary"), ("read-only", "standby"), ("any", "any"), ("prefer-standby",) * 2]
)
def test_a_session_is_judged_by_its_server_and_not_by_the_settings_that_we_give_it(
    word: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete(f"target_session_attrs={word}")["target_session_attrs"] == asked
    monkeypatch.setenv("PGTARGETSESSIONATTRS", word)
    assert complete("")["target_session_attrs"] == asked


def test_nobody_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 5)  # whom no file of users knows
    found = complete("host=db.example")
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", system_roots())
    assert "sslcertmode" not in found
    assert complete("service=shop")["service"] == "shop"


def test_a_home_that_may_not_be_looked_into_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv("HOME", str(closed))
    user = os.geteuid()
    try:
        if user == 0:  # who may look everywhere
            os.seteuid(65534)
        found = complete("host=db.example service=shop")
    finally:
        os.seteuid(user)
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", system_roots())
    assert found["sslcertmode"] == "disable"


def test_no_settings_no_options() -> None:
    assert "options" not in complete("dbname=shop")


def test_a_password_takes_the_place_of_the_dsns() -> None:
    new = "n'e\\w"
    assert complete("host=/tmp password=old", password=new).get("password", "") == new
    assert complete("host=/tmp password=old").get("password", "") != new


def test_what_is_rendered_reads_back_the_same() -> None:
    awkward = "it's \\ here"
    parameters = complete("host=/tmp user='a b'", password=awkward, settings={"DateStyle": "ISO, MDY"})
    assert parse_dsn(render(parameters)) == parameters


def test_what_is_no_dsn_is_refused() -> None:
    with pytest.raises(ProgrammingError):
        complete("host=/tmp nonsense")


def test_our_name_and_encoding_are_defaults() -> None:
    assert complete("")["application_name"] == "pg-query-gateway"
    assert complete("application_name=mine")["application_name"] == "mine"
    assert complete("")["client_encoding"] == "UTF8"
    assert complete("client_encoding=LATIN1")["client_encoding"] == "UTF8"
    assert complete("")["gssencmode"] == "disable"


def test_addresses_are_given_beside_their_names() -> None:
    resolved = resolve({"host": "127.0.0.1", "port": "5433"})
    assert resolved == {"host": "127.0.0.1", "hostaddr": "127.0.0.1", "port": "5433"}
    assert resolve({"host": "::1"}) == {"host": "::1", "hostaddr": "::1"}


def test_a_name_with_two_addresses_becomes_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"db": ["10.0.0.1", "2001:db8::1"], "other": ["10.0.0.2"]}

    def look_up(name: str, _port: None, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        # twice each, as getaddrinfo does for several protocols
        return [(2, 1, 6, "", (address, 0)) for address in known[name] for _ in range(2)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert resolve({"host": "db,other", "port": "1,2"}) == {
        "host": "db,db,other",
        "hostaddr": "10.0.0.1,2001:db8::1,10.0.0.2",
        "port": "1,1,2",
    }
    assert resolve({"host": "db", "port": "7"}) == {"host": "db,db", "hostaddr": "10.0.0.1,2001:db8::1", "port": "7"}
    assert resolve({"host": "gone,other"}) == {"host": "other", "hostaddr": "10.0.0.2"}
    assert resolve({"host": "/run/pg,other", "port": "1,2"}) == {
        "host": "/run/pg,other",
        "hostaddr": ",10.0.0.2",
        "port": "1,2",
    }
    with pytest.raises(OSError, match="not known"):
        resolve({"host": "gone,lost"})


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"dbname": "x"},
        {"host": "/run/postgresql"},
        {"host": "@abstract"},
        {"host": "db.example", "hostaddr": "10.0.0.1"},
        {"host": "127.0.0.1,::1", "port": "1,2,3"},
    ],
)
def test_what_needs_no_look_up_is_left_alone(parameters: dict[str, str]) -> None:
    assert resolve(parameters) == parameters


@pytest.mark.parametrize(
    ("host", "local"), [("", True), ("localhost", True), ("LOCALHOST", False), ("10.0.0.1", False)]
)
def test_only_what_certainly_is_this_machine_is_local(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_servers_that_went_without_a_word_are_noticed_within_5_s_unless_the_dsn_says_otherwise() -> None:
    silent = complete("host=db")
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count")
    idle, interval, times = (int(silent[name]) for name in names)
    assert idle + interval * times <= 5
    assert 0 < int(silent["tcp_user_timeout"]) <= 5000
    chosen = complete("host=db keepalives_idle=60 tcp_user_timeout=0")
    assert (chosen["keepalives_idle"], chosen["tcp_user_timeout"]) == ("60", "0")
