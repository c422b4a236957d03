"""The certificate that clients are shown: taken anew when its files change, kept while they do not fit."""

import ssl
from pathlib import Path

import pytest

from gateway.events import CertificateNotTaken, CertificateTaken, Event
from gateway.server.certificates import LOOK_EVERY, Certificates
from gateway.settings import ServerSettings, Settings
from tests.live.authorities import Authority, Issued


class Files:
    """The files of a gateway's certificate, and a clock that is told when to go on."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.certificate, self.key = folder / "shown.pem", folder / "shown.key"
        self.now = 0.0
        self.events: list[Event] = []
        self.authority.issue("first.example").copy_to(self.certificate, self.key)
        settings = Settings(server=ServerSettings(certfile=str(self.certificate), keyfile=str(self.key)))
        self.certificates = Certificates(settings, observe=self.events.append, clock=lambda: self.now)

    def later(self) -> ssl.SSLContext:
        """The context at the next look."""
        self.now += LOOK_EVERY
        return self.certificates.context()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shown(files: Files, context: ssl.SSLContext) -> str:
    """The name in the certificate of a handshake with this context."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cafile=str(files.authority.roots))
    trusting.check_hostname = False
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert()
    assert found is not None
    name = found["subjectAltName"][0][1]
    assert isinstance(name, str)
    return name


def test_the_certificate_of_the_start_is_shown_as_long_as_nothing_changes(files: Files) -> None:
    assert shown(files, files.certificates.context()) == "first.example"
    assert files.later() is files.certificates.context()
    assert files.events == []


def test_a_changed_certificate_is_shown_to_new_connections(files: Files) -> None:
    files.authority.issue("second.example").copy_to(files.certificate, files.key)
    assert shown(files, files.certificates.context()) == "first.example"
    assert shown(files, files.later()) == "second.example"
    assert files.events == [CertificateTaken(file=str(files.certificate))]


def test_a_certificate_whose_key_has_not_come_is_not_told_of(files: Files) -> None:
    second: Issued = files.authority.issue("second.example")
    files.certificate.write_bytes(second.certificate.read_bytes())
    assert shown(files, files.later()) == "first.example"
    files.key.write_bytes(second.key.read_bytes())
    assert shown(files, files.later()) == "second.example"
    assert files.events == [CertificateTaken(file=str(files.certificate))]


def test_files_that_stay_unusable_are_told_of_once_and_change_nothing(files: Files) -> None:
    files.certificate.write_bytes(b"no certificate")
    for _ in range(4):
        assert shown(files, files.later()) == "first.example"
    (event,) = files.events
    assert isinstance(event, CertificateNotTaken)
    files.certificate.unlink()
    assert [shown(files, files.later()) for _ in range(3)] == ["first.example"] * 3
    assert len(files.events) == 2
    assert "No such file" in str(files.events[1])


def test_a_key_with_a_passphrase_is_never_asked_for_on_the_terminal(files: Files) -> None:
    locked = Path(__file__).parents[1] / "tls" / "locked_key.pem"
    files.key.write_bytes(locked.read_bytes())
    assert shown(files, files.later()) == "first.example"
