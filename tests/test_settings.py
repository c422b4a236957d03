"""gateway.toml and the environment to settings: defaults, precedence, every fault with its place, no secret shown."""

import contextlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn

from gateway.faults import FaultsFound
from gateway.settings import Member, Settings, examine, inherits_sockets, load_settings, settings_template, with_members
from gateway.settings.discovering import member_endpoint
from gateway.settings.dsn import faults_of, masked
from gateway.settings.keys import keys_of
from gateway.settings.model import NAMED_SECTIONS, SECTIONS, EndpointSettings, GroupSettings, ServerSettings
from gateway.settings.units import Rate, duration_text, rate, seconds, size, size_text

DSN = "host=127.0.0.1 dbname=shop user=gateway"
TLS = Path(__file__).parent.resolve() / "tls"
ONE = {"DATABASE_URL": "postgresql://gateway@127.0.0.1/shop"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "gateway.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(text: str = "", **environ: str) -> Settings:
    """Settings of a file with one good endpoint and this text before it."""
    return load_settings(write(f'{text}\n[endpoints.primary]\ndsn = "{DSN}"\n'), environ)


def faults(
    text: str = "", *, endpoint: bool = True, overrides: dict[str, str] | None = None, **environ: str
) -> list[str]:
    if endpoint:
        text += f'\n[endpoints.primary]\ndsn = "{DSN}"\n'
    return [str(fault) for fault in examine(write(text), environ, overrides).faults]


def test_database_url_alone_is_a_complete_setup() -> None:
    settings = load_settings(None, ONE)
    assert settings.endpoints == {"primary": EndpointSettings(dsn=ONE["DATABASE_URL"])}
    assert settings.groups == {
        "read": GroupSettings(access="read", endpoints=("primary",), size=16),
        "write": GroupSettings(access="write", endpoints=("primary",), size=8),
    }
    assert settings.server.bind == ("127.0.0.1:8080",)
    assert settings.catalogue.paths == ("queries",)


def test_the_defaults_are_those_of_the_contract() -> None:
    server, settings = ServerSettings(), Settings()
    assert (server.max_body, server.max_result_bytes, server.timeout) == (1048576, 67108864, 5.0)
    assert (server.head_timeout, server.body_timeout, server.idle_timeout) == (5.0, 10.0, 75.0)
    assert (server.threads, server.max_batch, server.prepared, server.retry_budget) == (8, 1000, 200, 0.1)
    assert (settings.probe.interval, settings.probe.timeout, settings.idempotency.retention) == (0.5, 0.5, 86400.0)
    group = GroupSettings()
    assert (group.fallback, group.queue, group.max_lag, group.balance) == ("primary", 4096, 10.0, "least_busy")
    assert (settings.auth.mode, settings.auth.settings, settings.auth.leeway) == (("none",), {}, 30.0)


def test_every_key_of_the_file_is_read() -> None:
    settings = load(
        """
        [server]
        bind = ["127.0.0.1:8080", "unix:/run/gateway.sock"]
        workers = 2
        worker = "sync"
        max_body = "64kB"
        timeout = "250ms"
        retry_budget = 0
        trusted_proxies = ["10.0.0.0/8"]
        allowed_hosts = ["shop.internal"]
        cors_origins = ["https://shop.example", "http://[::1]:3000"]
        verbose_errors = true
        [groups.reporting]
        size = 4
        max_lag = "1h"
        balance = "round_robin"
        fallback = "none"
        settings = true
        [endpoints.pooled]
        dsn = "postgresql://h1,h2:6432/shop?sslmode=verify-full"
        prepare = false
        [auth]
        settings = { "app.user" = "claim:sub" }
        """
    )
    assert settings.server.bind == ("127.0.0.1:8080", "unix:/run/gateway.sock")
    assert (settings.server.workers, settings.server.worker, settings.server.max_body) == (2, "sync", 65536)
    assert (settings.server.timeout, settings.server.retry_budget, settings.server.verbose_errors) == (0.25, 0.0, True)
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert settings.server.allowed_hosts == ("shop.internal",)
    assert settings.server.cors_origins == ("https://shop.example", "http://[::1]:3000")
    assert settings.groups == {
        "reporting": GroupSettings(
            endpoints=("pooled", "primary"),
            size=4,
            max_lag=3600.0,
            balance="round_robin",
            fallback="none",
            settings=True,
        )
    }
    assert not settings.endpoints["pooled"].prepare
    assert settings.auth.settings == {"app.user": "claim:sub"}


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("GATEWAY_SERVER__WORKERS", "4", "workers", 4),
        ("GATEWAY_SERVER__VERBOSE_ERRORS", "on", "verbose_errors", True),
        ("GATEWAY_SERVER__TIMEOUT", "2m", "timeout", 120.0),
        ("GATEWAY_SERVER__MAX_BODY", "2MB", "max_body", 2097152),
        ("GATEWAY_SERVER__MAX_BODY", "5000", "max_body", 5000),
        ("GATEWAY_SERVER__RETRY_BUDGET", "0.5", "retry_budget", 0.5),
        ("GATEWAY_SERVER__BIND", "127.0.0.1:1, [::1]:2", "bind", ("127.0.0.1:1", "[::1]:2")),
        ("GATEWAY_SERVER__BIND", '["127.0.0.1:1", "unix:/a,b"]', "bind", ("127.0.0.1:1", "unix:/a,b")),
        ("GATEWAY_SERVER__TRUSTED_PROXIES", "", "trusted_proxies", ()),
    ],
)
def test_the_environment_beats_the_file(variable: str, text: str, key: str, value: object) -> None:
    settings = load('[server]\nworkers = 1\nverbose_errors = false\ntimeout = "1s"\n', **{variable: text})
    assert getattr(settings.server, key) == value


def test_the_command_line_beats_the_environment() -> None:
    path = write(f'[endpoints.primary]\ndsn = "{DSN}"')
    overrides = {"server.workers": "3", "server.bind": ("127.0.0.1:9",)}
    settings = load_settings(path, {"GATEWAY_SERVER__WORKERS": "2"}, overrides)
    assert (settings.server.workers, settings.server.bind) == (3, ("127.0.0.1:9",))


def test_the_environment_can_name_endpoints_and_groups() -> None:
    settings = load_settings(
        write('[endpoints.replica-1]\ndsn = "host=10.0.0.9"'),
        {
            "GATEWAY_ENDPOINTS__PRIMARY__DSN": "host=10.0.0.1",
            "GATEWAY_ENDPOINTS__REPLICA_1__DSN": "host=10.0.0.2",
            "GATEWAY_GROUPS__WRITE__SIZE": "5",
            "GATEWAY_GROUPS__WRITE__SETTINGS": "true",
            "GATEWAY_AUTH__SETTINGS": '{"a.b" = "claim:c"}',
        },
    )
    assert {name: endpoint.dsn for name, endpoint in settings.endpoints.items()} == {
        "replica-1": "host=10.0.0.2",
        "primary": "host=10.0.0.1",
    }
    write_group = GroupSettings(access="write", size=5, endpoints=("replica-1", "primary"), settings=True)
    assert settings.groups == {"write": write_group}
    assert settings.auth.settings == {"a.b": "claim:c"}


def test_database_url_never_joins_configured_endpoints() -> None:
    assert list(load_settings(write('[endpoints.shop]\ndsn = "host=10.0.0.1"'), ONE).endpoints) == ["shop"]
    assert (
        load_settings(write('[endpoints.primary]\ndsn = "host=10.0.0.1"'), ONE).endpoints["primary"].dsn
        == "host=10.0.0.1"
    )


def test_database_url_completes_a_primary_without_a_dsn() -> None:
    endpoint = load_settings(write("[endpoints.primary]\nprepare = false"), ONE).endpoints["primary"]
    assert endpoint == EndpointSettings(dsn=ONE["DATABASE_URL"], prepare=False)


def test_all_faults_are_reported_at_once_with_their_places() -> None:
    found = faults(
        '[server]\ntimeout = 5\nthreds = 3\n[groups.read]\nendpoints = ["replica"]\nsize = "many"\n[probes]\n',
        GATEWAY_SERVER__WORKERS="many",
        GATEWAY_SERVER__VERBOSE_ERRORS="maybe",
        overrides={"server.bind": "nowhere"},
    )
    assert found == [
        '--bind: server.bind: \'nowhere\' is none of "host:port", "[ipv6]:port", "unix:/path"',
        "environment GATEWAY_SERVER__VERBOSE_ERRORS: server.verbose_errors: must be true or false",
        "environment GATEWAY_SERVER__WORKERS: server.workers: must be a whole number",
        'gateway.toml:2: server.timeout: must be a duration in quotes, such as "250ms" or "5s"',
        'gateway.toml:3: there is no setting server.threds; did you mean "threads"?',
        "gateway.toml:5: groups.read.endpoints: there is no endpoint 'replica'",
        "gateway.toml:6: groups.read.size: expected `int`, got `str` (it is 'many')",
        "gateway.toml:7: there is no section [probes]",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nworkers = true", "server.workers: expected `int`, got `bool` (it is True)"),
        ("[server]\nthreads = 0", "server.threads: expected `int` >= 1 (it is 0)"),
        (
            '[server]\nworker = "gevent"',
            'server.worker: must be one of "gateway", "gthread", "sync" (it is \'gevent\')',
        ),
        (
            '[server]\nbind = "unix:/run/x.sock"\nreuse_port = true',
            "server.reuse_port: a unix socket cannot be shared so",
        ),
        ('[server]\nmax_body = "1mb"', 'server.max_body: must be a size such as "64kB" or "1MB" (B, kB, MB, GB, TB)'),
        ('[server]\ntimeout = "0s"', "server.timeout: expected `float` >= 0.001 (it is '0s')"),
        ('[server]\ntimeout = "30d"', "server.timeout: expected `float` <= 2147483.0 (it is '30d')"),
        ("[server]\nbind = []", "server.bind: expected `array` of length >= 1 (it is [])"),
        ('[server]\nbind = ["127.0.0.1:1", "127.0.0.1:1"]', "server.bind: 127.0.0.1:1 is there twice"),
        ('[server]\nsecret_file = "gone"', "gone cannot be read: No such file or directory"),
        ('[server]\nsecret_file = "/dev/null"', "server.secret_file: /dev/null has less than 16 bytes"),
        ('[server]\nkeyfile = "k"', "server.keyfile: has no effect without server.certfile"),
        (
            '[server]\ntrusted_proxies = ["10.0.0.1/8"]',
            "server.trusted_proxies: '10.0.0.1/8' is no address or network: 10.0.0.1/8 has host bits set",
        ),
        ('[server]\nallowed_hosts = ["a.example:80"]', "server.allowed_hosts: 'a.example:80' is no name of a host"),
        ('[server]\nallowed_hosts = ["*"]', "server.allowed_hosts: '*' is no name of a host"),
        ('[server]\ncors_origins = ["*"]', "server.cors_origins: '*' is no origin"),
        ('[server]\ncors_origins = ["null"]', "server.cors_origins: 'null' is no origin"),
        ('[server]\ncors_origins = ["https://A.example"]', "server.cors_origins: 'https://A.example' is no origin"),
        ('[server]\ncors_origins = ["https://a.example/"]', "server.cors_origins: 'https://a.example/' is no origin"),
        ('[mcp]\npath = "/query/mcp"', "mcp.path: /query/mcp is among the gateway's other routes"),
        ('[mcp]\npath = "/"', "mcp.path: "),
        ('[mcp]\npath = "/a//b"', "mcp.path: "),
        ('[mcp]\npath = "/{name}"', "mcp.path: "),
        ("server = 3", "server must be a table"),
        ("[groups]\nread = 3", "groups.read must be a table"),
        ("[groups.read]\nsize = 1\n[server]\nworkers = 2", "groups.read.size: 1 connections cannot be split over 2"),
        ('[groups.read]\nendpoints = ["primary", "primary"]', "groups.read.endpoints: names an endpoint twice"),
        ('[groups.read]\nendpoints = ["primry"]', "there is no endpoint 'primry'; did you mean \"primary\"?"),
        ('[groups."a.b"]\nsize = 4', "groups.a.b: a name is a letter or _"),
        ('[auth]\nmode = "key"', 'auth.mode: must be one of "none", "keys", "jwt", "certificates"'),
        ('[auth]\nmode = ["none", "keys"]', 'auth.mode: "none" stands alone'),
        ('[auth]\nmode = "keys"', 'auth.mode: "keys" needs auth.keys_file, where `gateway key new NAME` writes'),
        ('[auth]\nkeys_file = "k"', 'auth.keys_file: has no effect without "keys" in auth.mode'),
        ('[auth]\nmode = "jwt"\naudience = "a"\njwks_file = "j"', 'auth.mode: "jwt" needs auth.issuer'),
        ('[auth]\nmode = "jwt"', 'auth.mode: "jwt" needs one of auth.jwks_url, auth.jwks_file and'),
        ('[auth]\nmode = "jwt"\njwks_url = "http://a.example/k"', "auth.jwks_url: must be https://"),
        (
            '[auth]\nmode = "jwt"\njwks_file = "j"\nalgorithms = ["HS256"]',
            "HS256 needs jwt_secret_file; with public keys",
        ),
        ('[auth]\nmode = "jwt"\njwt_secret_file = "s"', "auth.algorithms: with jwt_secret_file only HS256"),
        ('[auth]\nmode = "jwt"\nalgorithms = ["none"]', "auth.algorithms: must be one of"),
        ('[auth]\nmode = "certificates"', "needs [auth.certificates], which says who has which roles"),
        ('[auth]\nmode = "certificates"', "needs server.client_ca, or auth.trusted_identity_header"),
        (
            '[auth]\nmode = "certificates"\ntrusted_identity_header = "x-name"',
            "auth.trusted_identity_header: is believed from server.trusted_proxies only, and there are none",
        ),
        ('[auth]\nanonymous_roles = ["a"]', "auth.anonymous_roles: has no effect without allow_anonymous = true"),
        ('[auth]\nsettings = {"search_path" = "claims"}', "'search_path' is no setting of your own"),
        ('[auth]\nsettings = {"app.tenant" = "tenant"}', 'app.tenant must be "claims" or "claim:PATH", not'),
        ('[auth]\nsettings = {"role" = "claim:r"}', "auth.settings: role needs auth.database_roles"),
        ('[auth]\nsettings = {"app.tenant" = "claims"}', "has no effect unless a group has settings = true"),
        ("[groups.read]\nsettings = true", "groups.read.settings: there are no [auth] settings to send"),
        ("[endpoints.replica1]\nprepare = true", "endpoints.replica1: has no dsn"),
        ('[endpoints.r]\ndsn = "host=a"\ndsn_file = "b"', "dsn_file and dsn exclude each other"),
        ('[endpoints.r]\ndsn = "host=a"\npassword_file = "nope"', "endpoints.r.password_file: "),
        ("[server\n", "not valid TOML"),
    ],
)
def test_a_faulty_file_is_refused_with_a_sentence(text: str, message: str) -> None:
    assert any(message in fault for fault in faults(text)), faults(text)


def test_a_file_that_is_no_toml_says_the_line() -> None:
    assert faults("[server]\nworkers = = 3") == ["gateway.toml:2: not valid TOML: Invalid value"]


def test_a_missing_or_binary_file_is_a_fault() -> None:
    assert str(examine(Path("nope.toml"), {}).faults[0]) == "nope.toml: cannot be read: No such file or directory"
    Path("gateway.toml").write_bytes(b"\xff\xfe")
    assert str(examine(None, {}).faults[0]) == "gateway.toml: is not UTF-8 text"


def test_nothing_configured_at_all_says_what_to_write() -> None:
    with pytest.raises(FaultsFound, match=r"there is no endpoint: set DATABASE_URL=postgresql://"):
        load_settings(None, {})


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GATEWAY_SERVER__WROKERS", 'there is no setting server.wrokers; did you mean "workers"?'),
        ("GATEWAY_SERVER", None),
        ("GATEWAY_NOTHING__WORKERS", "there is no setting nothing.workers"),
        ("GATEWAY_SERVER__A__B", "there is no setting server.a.b"),
        ("GATEWAY_GROUPS__READ", "there is no setting groups.read"),
        ("GATEWAY_WORKERS", "sections and keys are joined by two underscores: GATEWAY_SERVER__WORKERS"),
        ("GATEWAY_SERVER_WORKERS", "sections and keys are joined by two underscores: GATEWAY_SERVER__WORKERS"),
        ("GATEWAY_ENDPOINTS_MAIN_DSN", "GATEWAY_ENDPOINTS__MAIN__DSN"),
        # Kubernetes sets these in every pod beside a service called gateway; the next is the demo's.
        ("GATEWAY_SERVICE_HOST", None),
        ("GATEWAY_PORT", None),
        ("GATEWAY_PORT_8080_TCP_ADDR", None),
        ("GATEWAY_PG_BINDIR", None),
    ],
)
def test_an_unknown_variable_is_a_fault_unless_it_is_not_ours(variable: str, message: str | None) -> None:
    found = [str(fault) for fault in examine(write(f'[endpoints.primary]\ndsn = "{DSN}"'), {variable: "1"}).faults]
    assert len(found) == (message is not None)
    assert message is None or (found[0].startswith(f"environment {variable}: ") and message in found[0])


@pytest.mark.parametrize("bind", ["127.0.0.1:80", "127.9.9.9:80", "localhost:80", "[::1]:80", "unix:/tmp/x.sock"])
def test_without_authentication_loopback_is_served(bind: str) -> None:
    assert faults(GATEWAY_SERVER__BIND=bind) == []


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "gateway.example:80", "[::ffff:127.0.0.1]:80"]
)
def test_without_authentication_nothing_but_loopback_is_served_unasked(bind: str) -> None:
    assert "is not loopback" in faults(GATEWAY_SERVER__BIND=bind)[0]
    assert faults("[auth]\nallow_anonymous = true", GATEWAY_SERVER__BIND=bind) == []


@pytest.mark.parametrize(
    "bind",
    ["8080", ":8080", "127.0.0.1:", "127.0.0.1:99999", "::1:80", "[127.0.0.1]:80", "unix:rel", "a b:1", "fd://3"],
)
def test_an_address_that_is_none_is_a_fault(bind: str) -> None:
    assert "is none of" in faults(GATEWAY_SERVER__BIND=bind)[0]


def test_workers_are_one_a_processor_but_never_more_than_a_group_has_connections() -> None:
    path = write(f'[endpoints.primary]\ndsn = "{DSN}"')
    few, many = examine(path, {}, processors=3), examine(path, {}, processors=64)
    assert few.settings is not None
    assert many.settings is not None
    assert (few.settings.server.workers, many.settings.server.workers) == (3, 8)
    assert not many.faults


def test_too_many_workers_blame_the_option_that_asked_for_them() -> None:
    assert faults(overrides={"server.workers": "9"}) == [
        "--workers: groups.write.size: 8 connections cannot be split over 9 workers; "
        "make it at least 9, or lower server.workers"
    ]


def test_relative_paths_count_from_the_folder_of_the_file(folder: Path) -> None:
    secret = write("s3cret\n", "etc/secret")
    path = write(
        f'[server]\nruntime_dir = "run"\n[catalogue]\npaths = ["queries", "/q"]\n'
        f'[endpoints.primary]\ndsn = "{DSN}"\npassword_file = "secret"',
        "etc/gateway.toml",
    )
    settings = load_settings(path, {})
    assert settings.catalogue.paths == ("etc/queries", "/q")
    assert settings.server.runtime_dir == str(folder / "etc" / "run")
    assert settings.endpoints["primary"].password == ""  # the file is read for each connection
    assert settings.endpoints["primary"].password_file == str(folder / secret)
    assert load_settings(path, {"GATEWAY_CATALOGUE__PATHS": "other"}).catalogue.paths == ("other",)


def test_any_secret_may_be_a_file_and_the_environment_replaces_either_form() -> None:
    write("postgresql://u:from-file@h/db\n", "dsn")
    path = write('[endpoints.primary]\ndsn = "host=a password=old"\npassword = "p1"')
    settings = load_settings(path, {"GATEWAY_ENDPOINTS__PRIMARY__DSN_FILE": "dsn"})
    assert settings.endpoints["primary"].dsn == "postgresql://u:from-file@h/db"
    settings = load_settings(
        None, {"DATABASE_URL_FILE": str(Path("dsn").absolute())} | {"GATEWAY_SERVER__WORKERS": "1"}
    )
    assert settings.endpoints["primary"].dsn == "host=a password=old"  # the file has one
    Path("gateway.toml").unlink()
    settings = load_settings(None, {"DATABASE_URL_FILE": "dsn"})
    assert settings.endpoints["primary"].dsn == "postgresql://u:from-file@h/db"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 70000, "is too long"),
        (None, "cannot be read"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_a_fault(content: bytes | None, message: str) -> None:
    if content is not None:
        Path("secret").write_bytes(content)
    (found,) = faults(GATEWAY_ENDPOINTS__PRIMARY__PASSWORD_FILE=str(Path("secret")))
    assert found.startswith("environment GATEWAY_ENDPOINTS__PRIMARY__PASSWORD_FILE: endpoints.primary.password_file: ")
    assert message in found


def test_certificates_are_tried_before_anything_is_served() -> None:
    server = f'[server]\ncertfile = "{TLS / "certificate.pem"}"\n'
    settings = load(f'{server}keyfile = "{TLS / "key.pem"}"\nclient_ca = "{TLS / "certificate.pem"}"')
    assert settings.server.certfile == str(TLS / "certificate.pem")
    write("not a key", "bad")
    assert "certificate and key do not load" in faults(f'{server}keyfile = "bad"')[0]
    assert "certificate and key do not load" in faults(f'{server}keyfile = "{TLS / "locked_key.pem"}"')[0]
    assert "does not load" in faults(f'{server}keyfile = "{TLS / "key.pem"}"\nclient_ca = "bad"')[0]
    assert "cannot be read" in faults('[server]\ncertfile = "nope"')[0]


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:canary@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:can@ary/canary@h/db", "postgresql://u:***@h/db"),
        ("postgresql://:canary@h/db", "postgresql://:***@h/db"),
        ("postgresql://u@h/db?password=canary&sslmode=require", "postgresql://u@h/db?password=***&sslmode=require"),
        ("postgresql://u@h/db?p%61ssword=canary", "postgresql://u@h/db?p%61ssword=***"),
        ("postgresql://u@h:5432/db", "postgresql://u@h:5432/db"),
        ("host=h password=canary user=u", "host=h password=*** user=u"),
        ("host=h password = 'can\\'t canary' user=u", "host=h password = *** user=u"),
        ("host=h password='canary unclosed", "host=h password=***"),
        ("host=h sslpassword=canary", "host=h sslpassword=***"),
        ("host=h PASSWORD=canary\\ canary", "host=h PASSWORD=***"),
    ],
)
def test_a_dsn_is_shown_without_its_secrets(dsn: str, shown: str) -> None:
    assert masked(dsn) == shown


def test_the_repr_of_settings_shows_no_password() -> None:
    settings = load_settings(
        write(
            '[endpoints.a]\ndsn = "host=h password=canary"\n[endpoints.b]\ndsn = "postgresql://u:canary@h"\n'
            '[endpoints.c]\ndsn = "host=h"\npassword = "canary"'
        ),
        {},
    )
    assert "canary" not in repr(settings)
    assert "host=h password=***" in repr(settings)


@pytest.mark.parametrize(
    "dsn",
    [
        "host=a b canary",
        "host='a canary",
        "postgresql://u:can@ary@h",
        "postgresql://u:canary/canary@h/db",
        "postgresql://h/db?canary=canary",
        "host=h canary=canary",
        "host=h port=canary",
        "host=h sslmode=canary",
        "mysql://u:canary@h",
        "canary",
        "",
        "   ",
        "host=h\0",
        "postgresql://[::1/db",
        "postgresql://h/db?password",
        "host=h client_encoding=canary",
        "host=h replication=canary",
        "host=h target_session_attrs=canary",
    ],
)
def test_a_dsn_of_the_wrong_form_is_a_fault_that_shows_no_part_of_it(dsn: str) -> None:
    found = list(faults_of(dsn))
    assert found
    assert "canary" not in " ".join(found)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://",
        "postgres://u:p%40ss@h1:5432,h2/db?target_session_attrs=any&sslmode=verify-full",
        "postgresql://[::1]:5432/db",
        "postgresql://%2Fvar%2Frun/db",
        "postgresql:///db?host=/var/run&port=5433",
        "host=/var/run dbname=shop",
        "host = 10.0.0.1  port='5432' password='a b\\'c' application_name=''",
        "options='-c geqo=off' user=a\\ b dbname=",
    ],
)
def test_a_dsn_that_libpq_takes_is_no_fault(dsn: str) -> None:
    assert list(faults_of(dsn)) == []


def test_a_dsn_that_could_not_serve_says_why() -> None:
    assert faults('[endpoints.replica]\ndsn = "host=h client_encoding=LATIN1 target_session_attrs=master"') == [
        "gateway.toml:2: endpoints.replica.dsn: client_encoding must be UTF8: requests and answers are, and the server "
        "converts; leave it out",
        "gateway.toml:2: endpoints.replica.dsn: target_session_attrs must be one of any, read-write, read-only, "
        "primary, standby, prefer-standby",
    ]
    assert list(faults_of("postgresql://h/db?client_encoding=utf-8&replication=off")) == []


def test_a_typing_error_in_a_dsn_is_pointed_out() -> None:
    assert list(faults_of("hots=h")) == ['has an unknown keyword "hots"; did you mean "host"?']


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("1.5 s", 1.5)],
)
def test_durations_have_units(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("64kB", 65536), ("1MB", 1048576), ("1.5kB", 1536), ("7", 7), ("2GB", 2**31)]
)
def test_sizes_count_by_1024(text: str, value: int) -> None:
    assert size(text) == value


@given(st.integers(0, 10**9), st.sampled_from([("us", 1), ("ms", 10**3), ("s", 10**6), ("m", 60 * 10**6)]))
def test_any_whole_number_of_a_unit_is_that_many_seconds(number: int, unit: tuple[str, int]) -> None:
    assert seconds(f"{number}{unit[0]}") == pytest.approx(number * unit[1] / 10**6, rel=1e-15)


@given(st.integers(1, 10**12))
def test_what_is_written_as_a_duration_or_a_size_reads_back_the_same(number: int) -> None:
    assert seconds(duration_text(number / 1000)) == number / 1000
    assert size(size_text(number)) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.25, "250ms"), (5.0, "5s"), (75.0, "75s"), (120.0, "120s"), (86400.0, "24h"), (0.0005, "500us")],
)
def test_a_duration_is_written_in_the_largest_fitting_unit(number: float, text: str) -> None:
    assert duration_text(number) == text


@given(st.text(max_size=12))
def test_any_text_is_a_duration_and_a_size_or_a_sentence(text: str) -> None:
    for parse in (seconds, size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@given(st.text(max_size=60))
def test_any_text_has_a_verdict_as_a_dsn(text: str) -> None:
    assert all(isinstance(fault, str) for fault in faults_of(text))


@given(st.from_regex(r"[a-z0-9!#$%^*()+@/:?&=' \\]{6,20}", fullmatch=True))
def test_no_password_of_a_uri_survives_masking(noise: str) -> None:
    assert "canary" not in masked(f"postgresql://u:canary{noise}canary@h/db")


def test_settings_survive_the_artefact() -> None:
    settings = load('[server]\ntimeout = "250ms"\nmax_body = "3kB"')
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


def test_sockets_are_inherited_only_when_they_are_for_this_process() -> None:
    assert not inherits_sockets({})
    assert not inherits_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"})


def template_keys() -> Iterator[tuple[str, str, object]]:
    """Section, key and value of every line of the template, commented or not."""
    section = ""
    for line in settings_template().splitlines():
        if line.startswith("["):
            section = line.strip("[]").partition(".")[0]
        elif section and " = " in line:
            ((key, value),) = tomllib.loads(line.removeprefix("# ")).items()
            yield section, key, value


def test_nothing_is_left_out_of_the_template() -> None:
    silent = {
        f"{section}.{name}"
        for section, struct in (SECTIONS | NAMED_SECTIONS).items()
        for name, key in keys_of(struct).items()
        if key.description is None
    }
    assert silent == set()


def test_the_template_loads_as_it_is_written() -> None:
    settings = load_settings(write(settings_template()), {})
    assert settings.server == msgspec.structs.replace(ServerSettings(), workers=settings.server.workers)
    assert settings.groups["read"] == GroupSettings(endpoints=("primary",))
    assert settings.groups["write"] == GroupSettings(access="write", size=8, endpoints=("primary",))


def test_the_template_shows_every_key_with_its_default(folder: Path) -> None:
    sections = SECTIONS | NAMED_SECTIONS
    fields = {
        (section, name)
        for section, struct in sections.items()
        for name, key in keys_of(struct).items()
        if key.description is not None
    }
    assert {(section, key) for section, key, _ in template_keys()} == fields
    lines = "\n".join(
        line.removeprefix("# ")
        for line in settings_template().splitlines()
        if line.startswith("[") or (" = " in line and not line.startswith("#  ") and "dsn_file" not in line)
    ).partition("[server]")
    settings = load_settings(write("[server]" + lines[2].replace("password_file", "#")), {})
    plain = load_settings(write(settings_template()), {})
    assert msgspec.structs.replace(settings, server=plain.server) == plain
    assert settings.server == plain.server
    assert str(folder) not in repr(settings)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100/s", Rate(100, 1, 100)),
        ("100/s burst=200", Rate(100, 1, 200)),
        (" 10 / min burst=5 ", Rate(10, 60, 5)),
        ("90/m", Rate(90, 60, 2)),
        ("1/h", Rate(1, 3600, 1)),
        ("1000000/d", Rate(1_000_000, 86400, 12)),
    ],
)
def test_a_rate_without_a_burst_may_be_used_for_a_second_at_once(text: str, value: Rate) -> None:
    assert rate(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/s", "0/s", "5/w", "5/s burst=0", "5/s burst", "1.5/s", "-1/s", "٣/s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate such as"):
        rate(text)


# Endpoints that stand for others


POSTGRES = """
[endpoints.pg]
dsn = "host=db.example dbname=shop user=gateway"
discover = "dns"
[endpoints.old]
dsn = "host=10.9.9.9 dbname=shop user=gateway"
[groups.read]
endpoints = ["old", "pg"]
[groups.write]
"""
FOUND = (Member("10-0-0-1", address="10.0.0.1"), Member("10-0-0-2", address="10.0.0.2"))


def test_members_take_the_place_of_the_endpoint_that_stands_for_them_in_groups_too() -> None:
    settings = with_members(load_settings(write(POSTGRES), {}), {"pg": FOUND})
    assert list(settings.endpoints) == ["pg-10-0-0-1", "pg-10-0-0-2", "old"]
    assert settings.endpoints["pg-10-0-0-2"].dsn == "host=db.example dbname=shop user=gateway hostaddr=10.0.0.2"
    assert settings.groups["read"].endpoints == ("old", "pg-10-0-0-1", "pg-10-0-0-2")
    assert settings.groups["write"].endpoints == ("pg-10-0-0-1", "pg-10-0-0-2", "old")
    assert settings.members == {"pg": FOUND}


def test_other_members_take_the_place_of_those_that_are_there() -> None:
    written = load_settings(write(POSTGRES), {})
    before = with_members(written, {"pg": FOUND})
    later = (Member("10-0-0-3", address="10.0.0.3"), *FOUND[:1])
    assert with_members(before, {"pg": later}) == with_members(written, {"pg": later})
    assert with_members(before, {}) == written


def test_an_endpoint_is_served_as_it_is_written_while_it_has_no_members() -> None:
    settings = load_settings(write(POSTGRES), {})
    for members in ({}, {"pg": ()}):
        assert with_members(settings, members) == settings


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("host=a port=1 dbname=x", {"host": "b", "port": "2", "dbname": "x"}),
        ("dbname=x", {"host": "b", "port": "2", "dbname": "x"}),
        ("postgresql://me@a:1/x", {"host": "b", "port": "2", "dbname": "x", "user": "me"}),
        ("postgresql:///x?connect_timeout=9", {"host": "b", "port": "2", "dbname": "x", "connect_timeout": "9"}),
    ],
)
def test_libpq_takes_the_place_of_a_member_for_the_one_that_was_written(dsn: str, expected: dict[str, str]) -> None:
    source = EndpointSettings(dsn=dsn, discover=("http://127.0.0.1:8008",))
    made = member_endpoint(source, Member("b", host="b", port=2))
    assert (parse_dsn(made.dsn), made.discover) == (expected, ())


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ('["dns", "http://127.0.0.1:8008"]', "'dns' is neither \"dns\" alone nor like"),
        ('"10.0.0.1:8008"', "is neither"),
        ('"https://10.0.0.1:8008/cluster"', "is neither"),
        ('"http://10.0.0.1:8008"', "is not https, so that others on the way could name servers of their own"),
    ],
)
def test_a_place_that_nobody_can_be_asked_at_is_a_fault(places: str, message: str) -> None:
    (fault,) = faults(f'[endpoints.pg]\ndsn = "{DSN}"\ndiscover = {places}\n', endpoint=False)
    assert message in fault
    assert fault.startswith("gateway.toml:3: endpoints.pg.discover: ")


def test_patroni_may_be_asked_without_tls_where_that_is_meant() -> None:
    text = f'[endpoints.pg]\ndsn = "{DSN}"\ndiscover = "http://10.0.0.1:8008"\nallow_insecure = true\n'
    assert faults(text, endpoint=False) == []
