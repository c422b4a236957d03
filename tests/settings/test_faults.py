"""Every fault of a file, of the environment and of the command line is told with its place, all of them at once."""

from pathlib import Path

import pytest

from gateway.faults import FaultsFound
from gateway.settings import examine, load_settings
from tests.settings.files import DSN, faults, load, write

TLS = Path(__file__).parent.parent.resolve() / "tls"


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
        "gateway.toml:6: groups.read.size: must be a whole number (it is 'many')",
        "gateway.toml:7: there is no section [probes]",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nworkers = true", "server.workers: must be a whole number (it is True)"),
        ("[server]\nthreads = 0", "server.threads: must be at least 1 (it is 0)"),
        (
            '[server]\nworker = "gevent"',
            'server.worker: must be one of "gateway", "gthread", "sync" (it is \'gevent\')',
        ),
        (
            '[server]\nbind = "unix:/run/x.sock"\nreuse_port = true',
            "server.reuse_port: a unix socket cannot be shared so",
        ),
        ('[server]\nmax_body = "1mb"', 'server.max_body: must be a size such as "64kB" or "1MB" (B, kB, MB, GB, TB)'),
        ('[server]\ntimeout = "0s"', "server.timeout: must be at least 1ms (it is '0s')"),
        ('[server]\ntimeout = "30d"', "server.timeout: must be at most 2147483s (it is '30d')"),
        ("[server]\nbind = []", "server.bind: must have a length of at least 1 (it is [])"),
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


def test_too_many_workers_blame_the_option_that_asked_for_them() -> None:
    assert faults(overrides={"server.workers": "9"}) == [
        "--workers: groups.write.size: 8 connections cannot be split over 9 workers; "
        "make it at least 9, or lower server.workers"
    ]


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
