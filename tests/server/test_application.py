"""The artefact as gunicorn's configuration, and what gunicorn makes of it."""

import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.sock import ssl_context

from gateway.catalogue.query import Access, Catalogue, Kind, Query, Statement, Text, Verb
from gateway.demo.ports import find_port
from gateway.events import ignore
from gateway.server.application import Application
from gateway.server.artefact import ArtefactUnusable, Compiled
from gateway.server.log import Log
from gateway.settings import AuthSettings, ServerSettings, Settings

CERTIFICATES = Path(__file__).parents[1] / "tls"


def compiled(server: ServerSettings, *, timeout: float = 5.0, auth: AuthSettings | None = None) -> Compiled:
    statement = Statement(Verb.SELECT, Text(("SELECT 1",)))
    query = Query("one", Kind.SCALAR, Access.READ, statement, timeout=timeout)
    return Compiled.of(Settings(server=server, auth=auth or AuthSettings()), Catalogue({"one": query}, "hash"))


class Made:
    """An application that shows what it was made of."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    observe = staticmethod(ignore)

    def close(self) -> None:
        self.given = ()


def application(directory: Path, what: Compiled) -> Any:
    return Application(directory=directory, compiled=what, create_app=Made, log=Log(print))


def config(directory: Path, timeout: float = 5.0, **server: Any) -> Any:
    return application(directory, compiled(ServerSettings(workers=2, **server), timeout=timeout)).cfg


def test_gunicorn_is_told_what_the_settings_say(tmp_path: Path) -> None:
    cfg = config(tmp_path, bind=("127.0.0.1:9", "unix:/x"), worker="gthread", threads=5, idle_timeout=20.4)
    assert cfg.address == [("127.0.0.1", 9), "/x"]
    assert cfg.worker_class_str == "gateway.server.standard.ThreadedWorker"
    assert (cfg.workers, cfg.threads, cfg.keepalive) == (2, 5, 20)
    assert (cfg.proc_name, cfg.accesslog, cfg.errorlog) == ("gateway", None, None)
    assert cfg.control_socket_disable
    assert not cfg.preload_app
    assert not cfg.is_ssl


def test_a_sync_worker_stays_one_whatever_the_threads(tmp_path: Path) -> None:
    assert config(tmp_path, worker="sync", threads=8).worker_class_str == "sync"


def test_the_heartbeat_allows_a_sync_worker_its_longest_query(tmp_path: Path) -> None:
    assert config(tmp_path, timeout=600.0).timeout == 30
    assert config(tmp_path, timeout=600.0, worker="sync").timeout > 600


def test_the_environment_of_gunicorn_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WEB_CONCURRENCY", "9"), ("PORT", "99"), ("GUNICORN_CMD_ARGS", "--workers 9 --bind :99")):
        monkeypatch.setenv(name, value)
    cfg = config(tmp_path)
    assert (cfg.workers, cfg.bind) == (2, ["127.0.0.1:8080"])


def test_only_configured_proxies_are_believed(tmp_path: Path) -> None:
    assert config(tmp_path).forwarded_allow_ips == []
    cfg = config(tmp_path, trusted_proxies=("10.0.0.0/8", "::1"))
    assert cfg.forwarded_allow_ips == ["10.0.0.0/8", "::1"]
    assert cfg.forwarder_headers == []


def test_client_certificates_are_asked_for_where_their_authority_is_configured(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "certfile": str(CERTIFICATES / "certificate.pem"),
        "keyfile": str(CERTIFICATES / "key.pem"),
    }
    cfg = config(tmp_path, **files)
    assert cfg.is_ssl
    assert ssl_context(cfg).verify_mode == ssl.CERT_NONE
    assert ssl_context(config(tmp_path, **files, client_ca=files["certfile"])).verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_that_has_become_unusable_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtefactUnusable, match="certificate and key do not load"):
        config(tmp_path, certfile=str(tmp_path / "nowhere.pem"))


def test_a_worker_makes_its_app_of_the_artefact(tmp_path: Path) -> None:
    what = compiled(ServerSettings(workers=1))
    app = application(tmp_path, what)
    made = app.wsgi()
    assert made.given[:3] == (what.settings, what.catalogue, tmp_path)
    app.end()
    assert made.given == ()


def test_what_is_taken_is_served_but_the_addresses_stay(tmp_path: Path) -> None:
    app = application(tmp_path, compiled(ServerSettings(workers=1)))
    app.take(compiled(ServerSettings(workers=3, bind=("127.0.0.1:9999",))))
    assert (app.cfg.workers, app.cfg.bind) == (3, ["127.0.0.1:8080"])


@pytest.mark.parametrize("is_allowed", [False, True])
def test_inherited_sockets_off_loopback_are_served_only_if_that_is_allowed(tmp_path: Path, is_allowed: bool) -> None:
    auth = AuthSettings(allow_anonymous=is_allowed)
    app = application(tmp_path, compiled(ServerSettings(workers=1), auth=auth))
    with socket.socket() as local, socket.socket() as public:
        local.bind(("127.0.0.1", find_port()))
        public.bind(("0.0.0.0", find_port()))  # noqa: S104 - bound only, never listening
        app.cfg.when_ready(SimpleNamespace(LISTENERS=[local]))
        if is_allowed:
            app.cfg.when_ready(SimpleNamespace(LISTENERS=[local, public]))
        else:
            with pytest.raises(RuntimeError, match=r"0\.0\.0\.0:\d+ is not loopback"):
                app.cfg.when_ready(SimpleNamespace(LISTENERS=[local, public]))
