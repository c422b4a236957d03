"""Endpoints that stand for others: who takes their place, and where that is asked."""

import pytest
from psycopg2.extensions import parse_dsn

from gateway.settings import Member, load_settings, with_members
from gateway.settings.discovering import member_endpoint
from gateway.settings.model import EndpointSettings
from tests.settings.files import DSN, faults, write

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
