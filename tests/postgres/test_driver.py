"""Why a connect failed, in the pool's words; the sentences are those of libpq 17 and PostgreSQL 15 to 18."""

import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psycopg2
import pytest

from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Address, Driver, display_milliseconds, explained, read_secret
from gateway.rotation.endpoint import Reason

AT = 'connection to server at "db.example" (10.0.0.1), port 5432 failed: '
SENTENCES: list[tuple[str, Reason | None]] = [
    (
        AT + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?\n",
        Reason.REFUSED,
    ),
    (AT + "FATAL:  sorry, too many clients already\n", None),
    (AT + "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute\n", None),
    (AT + 'FATAL:  too many connections for role "gateway"\n', None),
    (AT + 'FATAL:  too many connections for database "shop"\n', None),
    (AT + "FATAL:  the database system is starting up\n", Reason.STARTING_UP),
    (
        AT + "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery …",
        Reason.STARTING_UP,
    ),
    (AT + "FATAL:  the database system is in recovery mode\n", Reason.STARTING_UP),
    (AT + "FATAL:  the database system is shutting down\n", Reason.REFUSED),
    (AT + 'FATAL:  password authentication failed for user "gateway"\n', Reason.AUTH),
    (AT + "fe_sendauth: no password supplied\n", Reason.AUTH),
    (AT + 'FATAL:  role "gateway" does not exist\n', Reason.AUTH),
    (AT + 'FATAL:  role "gateway" is not permitted to log in\n', Reason.AUTH),
    (AT + 'FATAL:  permission denied for database "shop"\n', Reason.AUTH),
    (
        AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "gateway", database "shop", no encryption\n',
        Reason.AUTH,
    ),
    (AT + 'FATAL:  database "shop" does not exist\n', Reason.UNKNOWN),
    (AT + 'FATAL:  database "ssl password timeout" does not exist\n', Reason.UNKNOWN),
    (AT + "server does not support SSL, but SSL was required\n", Reason.TLS),
    (AT + "server sent an error response during SSL exchange\n", Reason.REFUSED),
    (AT + "SSL error: certificate verify failed\n", Reason.TLS),
    (AT + 'server certificate for "db" does not match host name "db.example"\n', Reason.TLS),
    (AT + 'root certificate file "/root/.postgresql/root.crt" does not exist\n', Reason.TLS),
    (AT + "timeout expired\n", Reason.TIMEOUT),
    (AT + "Connection timed out\n", Reason.TIMEOUT),
    (AT + "No route to host\n", Reason.UNKNOWN),
    (AT + "Network is unreachable\n", Reason.REFUSED),
    (AT + "server closed the connection unexpectedly\n\tThis probably means …\n", Reason.LOST),
    (AT + "Connection reset by peer\n", Reason.LOST),
    ('connection to server on socket "/run/ssl/.s.PGSQL.5432" failed: No such file or directory\n', Reason.REFUSED),
    ('connection to server at "ssl.example" (10.0.0.1), port 5432 failed: Connection refused\n', Reason.REFUSED),
    ('connection to server at "certificate-timeout", port 5432 failed: Connection refused\n', Reason.REFUSED),
    ("something new", Reason.UNKNOWN),
    ("", Reason.UNKNOWN),
]


@pytest.mark.parametrize(("sentence", "reason"), SENTENCES)
def test_libpqs_sentence_tells_the_reason(sentence: str, reason: Reason | None) -> None:
    error = explained(psycopg2.OperationalError(sentence))
    assert error.reason is reason
    assert error.message
    assert "\n" not in error.message


def test_a_name_without_an_address_is_refused() -> None:
    error = explained(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert error.reason is Reason.REFUSED


def test_a_password_file_that_is_not_there_is_about_getting_in(tmp_path: Path) -> None:
    driver = Driver({"a": Address("host=127.0.0.1", password_file=str(tmp_path / "none"))}, read_only=True)
    with pytest.raises(ConnectError, match="none") as caught:
        driver.connect("a", monotonic() + 1)
    assert caught.value.reason is Reason.AUTH


def test_what_libpq_says_of_a_dsn_it_cannot_read_is_not_repeated() -> None:
    driver = Driver({"a": Address("host=127.0.0.1 password=my canary")}, read_only=True)
    with pytest.raises(ConnectError) as caught:
        driver.connect("a", monotonic() + 1)
    assert "canary" not in caught.value.message


def test_a_port_nobody_listens_on_refuses() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        driver = Driver({"a": Address(f"host=127.0.0.1 port={unused.getsockname()[1]} dbname=x")}, read_only=True)
        with pytest.raises(ConnectError) as caught:
            driver.connect("a", monotonic() + 5)
    assert caught.value.reason is Reason.REFUSED


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_deaf_server_costs_no_more_than_the_deadline(deaf: int) -> None:
    driver = Driver({"a": Address(f"host=127.0.0.1 port={deaf} dbname=x password=canary")}, read_only=True)
    before = monotonic()
    with pytest.raises(ConnectError) as caught:
        driver.connect("a", before + 0.2)
    assert caught.value.reason is Reason.TIMEOUT
    assert 0.19 <= monotonic() - before < 1.0
    assert "canary" not in caught.value.message


def test_a_secret_is_read_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" pass word \r\n", encoding="utf-8")
    assert read_secret(str(file)) == " pass word "


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (250, "250ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1500ms"),
        (6000, "6s"),
        (60_000, "1min"),
        (90_000, "90s"),
        (3_600_000, "1h"),
        (5_400_000, "90min"),
        (86_400_000, "1d"),
        (90_000_000, "25h"),
    ],
)
def test_durations_are_written_as_postgresql_shows_them(value: int, shown: str) -> None:
    assert display_milliseconds(value) == shown
