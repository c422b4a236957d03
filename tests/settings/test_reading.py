"""gateway.toml, the environment and the command line to settings: defaults, and which of them counts."""

from pathlib import Path

import msgspec
import pytest

from gateway.settings import Settings, examine, inherits_sockets, load_settings
from gateway.settings.model import EndpointSettings, GroupSettings, ServerSettings
from tests.settings.files import DSN, load, write

ONE = {"DATABASE_URL": "postgresql://gateway@127.0.0.1/shop"}


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


def test_workers_are_one_a_processor_but_never_more_than_a_group_has_connections() -> None:
    path = write(f'[endpoints.primary]\ndsn = "{DSN}"')
    few, many = examine(path, {}, processors=3), examine(path, {}, processors=64)
    assert few.settings is not None
    assert many.settings is not None
    assert (few.settings.server.workers, many.settings.server.workers) == (3, 8)
    assert not many.faults


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


def test_settings_survive_the_artefact() -> None:
    settings = load('[server]\ntimeout = "250ms"\nmax_body = "3kB"')
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


def test_sockets_are_inherited_only_when_they_are_for_this_process() -> None:
    assert not inherits_sockets({})
    assert not inherits_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"})
