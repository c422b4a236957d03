"""A DSN is held against libpq, and shown without its secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import load_settings
from gateway.settings.dsn import faults_of, masked
from tests.settings.files import faults, write


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


@given(st.text(max_size=60))
def test_any_text_has_a_verdict_as_a_dsn(text: str) -> None:
    assert all(isinstance(fault, str) for fault in faults_of(text))


@given(st.from_regex(r"[a-z0-9!#$%^*()+@/:?&=' \\]{6,20}", fullmatch=True))
def test_no_password_of_a_uri_survives_masking(noise: str) -> None:
    assert "canary" not in masked(f"postgresql://u:canary{noise}canary@h/db")
