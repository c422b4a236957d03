"""Whose certificate it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.certificates import Certificates, forwarded_names, names_in
from gateway.auth.claims import SessionSettings
from gateway.errors import Unauthenticated

KNOWN = {"spiffe://shop/app": ["sales"], "db.example": ["monitor"], "Ann": []}


def certificates() -> Certificates:
    return Certificates(KNOWN, sent=SessionSettings({"app.who": "claim:sub"}))


def test_a_known_name_is_a_caller() -> None:
    caller = certificates().caller_of(["other", "spiffe://shop/app", "Ann"])
    assert (caller.name, caller.roles) == ("cert:spiffe://shop/app", frozenset({"sales"}))
    assert caller.settings == {"app.who": "spiffe://shop/app"}


@pytest.mark.parametrize("names", [[], ["other"], ["spiffe://shop/app/"], ["ann"]])
def test_an_unknown_name_is_nobody(names: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        certificates().caller_of(names)


def test_the_names_of_a_certificate_are_uri_dns_and_common_name() -> None:
    shown = {
        "subject": ((("countryName", "DE"),), (("commonName", "Ann"),)),
        "subjectAltName": (("DNS", "db.example"), ("URI", "spiffe://shop/app"), ("IP Address", "10.0.0.1")),
    }
    assert names_in(shown) == ["spiffe://shop/app", "db.example", "Ann"]
    assert names_in({}) == []


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('By=spiffe://x;Hash=ab;Subject="CN=Ann,O=\\"A, B\\"";URI=spiffe://shop/app', ["spiffe://shop/app", "Ann"]),
        ("Hash=ab;URI=spiffe://evil,Hash=cd;URI=spiffe://shop/app", ["spiffe://shop/app"]),
        ("URI=spiffe://shop/app,Hash=cd", []),
        ('Subject="/C=DE/CN=Ann"', ["Ann"]),
        ('URI="spiffe://shop/app";DNS=a.example;DNS=b.example', ["spiffe://shop/app", "a.example", "b.example"]),
        ("db.example", ["db.example"]),
        ("evil, db.example ", ["db.example"]),
        ("db.example,", []),
        ("URI=a;x;URI=spiffe://shop/app", []),
        ('URI="a', []),
        ("", []),
        (",", []),
        ("x" * 9000, []),
    ],
)
def test_of_a_forwarded_header_the_last_element_counts(header: str, names: list[str]) -> None:
    assert forwarded_names(header) == names


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_what_a_client_writes_in_front_does_not_count(sent: str) -> None:
    assert "db.example" in forwarded_names(f"{sent.count('x')},db.example")
    assert all(isinstance(name, str) for name in forwarded_names(sent))
